package main

import "github.com/roamsync/roam/internal/app"

type regionCmd struct {
	List  regionListCmd  `cmd:"" help:"List the other regions, and what is not closed of those that were evicted."`
	Evict regionEvictCmd `cmd:"" help:"Give up a region that is gone for good: nobody waits for it any more, and it comes back empty only."`
}

type regionListCmd struct{ app.RegionListOptions }

func (c *regionListCmd) Run(e env) error { return app.RegionList(e.ctx, c.RegionListOptions, e.stdout) }

type regionEvictCmd struct{ app.RegionEvictOptions }

func (c *regionEvictCmd) Run(e env) error {
	return app.RegionEvict(e.ctx, c.RegionEvictOptions, e.stdout)
}
