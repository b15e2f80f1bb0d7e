package region

import (
	"context"
	"fmt"
	"time"

	"github.com/roamsync/roam/region/machine"
)

// trimEvery is how often the leader looks for sessions that have become too long.
const trimEvery = time.Second

// trim keeps the group's sessions at about Config.SessionEntries entries, until ctx ends. A trim that is not committed is tried again when its
// session grows.
func (g *group) trim(ctx context.Context) error {
	growth := machine.NewGrowth(g.r.cfg.SessionEntries)
	defer g.r.watch.add(g.n, growth.Note)()
	look := time.NewTicker(trimEvery)
	defer look.Stop()
	for {
		c, err := growth.Trim(g.fsm.View)
		if err != nil {
			return fmt.Errorf("look for sessions to trim: %w", err)
		}
		if c != nil {
			_, err = g.do(ctx, c)
		}
		if c != nil && err == nil {
			g.r.metrics.trims.Add(float64(len(c.Ops)))
			continue // there may be more
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}
