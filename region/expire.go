package region

import (
	"context"
	"fmt"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// expireEvery is how often a leader goes on looking for sessions of which something was removed, machine.IdleLook of them.
const expireEvery = time.Second

// Settled is what has to be known of other regions before ids of what was removed are forgotten.
type Settled interface {
	// Home is the region that sees to a session.
	Home(session string) string
	// Stable is what all regions have of a partition, if what may still come was numbered by who had all of that and was of a feature level; false:
	// that is not known now.
	Stable(partition uint8, level uint32) (crdt.Vector, bool)
}

// Level is the feature level that the region has committed.
func (r *Region) Level() uint32 { return r.level() }

// Expire has the ids of what was removed from sessions of a group forgotten, Config.RemovedTTL after that, as far as they are this region's to see to, until
// ctx ends. It is for the group's leader. What cannot be forgotten, since another region lags or the commit fails, is come to again.
func (r *Region) Expire(ctx context.Context, group int, all Settled) error {
	if r.cfg.RemovedTTL == 0 {
		return nil
	}
	var gone machine.Gone
	g := r.all()[group]
	for pause(ctx, expireEvery) {
		if r.level() < machine.ExpireLevel {
			continue
		}
		mark, expire, err := gone.Look(g.fsm.Machine, g.mask, r.cfg.Now(), r.cfg.RemovedTTL,
			func(session string) bool { return all.Home(session) == r.cfg.Region },
			func(p uint8) (crdt.Vector, bool) { return all.Stable(p, machine.ExpireLevel) })
		if err != nil {
			return fmt.Errorf("look for what was removed long ago: %w", err)
		}
		if g.attempt(ctx, mark) && g.attempt(ctx, expire) && expire != nil {
			r.metrics.expiries.Add(float64(len(expire.Ops)))
		}
	}
	return nil
}

// attempt commits a command that may wait, if there is one, and reports whether the next can follow.
func (g *group) attempt(ctx context.Context, c *machine.Command) bool {
	if c == nil {
		return true
	}
	_, err := g.do(ctx, c)
	if err != nil && ctx.Err() == nil {
		g.r.cfg.Logger.Debug("see to what nobody uses", "group", g.n, "err", err)
	}
	return err == nil
}
