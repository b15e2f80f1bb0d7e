package main

import "github.com/roamsync/roam/internal/app"

type regionCmd struct {
	List    regionListCmd    `cmd:"" help:"List the other regions, and what is not closed of those that were evicted."`
	Evict   regionEvictCmd   `cmd:"" help:"Give up a region that is gone for good: nobody waits for it any more, and it comes back empty only."`
	Salvage regionSalvageCmd `cmd:"" help:"Have a region take in what a disk that was found holds and no region that lives does."`
}

type regionListCmd struct{ app.RegionListOptions }

func (c *regionListCmd) Run(e env) error { return app.RegionList(e.ctx, c.RegionListOptions, e.stdout) }

type regionEvictCmd struct{ app.RegionEvictOptions }

func (c *regionEvictCmd) Run(e env) error {
	return app.RegionEvict(e.ctx, c.RegionEvictOptions, e.stdout)
}

type regionSalvageCmd struct{ app.RegionSalvageOptions }

func (c *regionSalvageCmd) Run(e env) error {
	return app.RegionSalvage(e.ctx, c.RegionSalvageOptions, e.stdout)
}
