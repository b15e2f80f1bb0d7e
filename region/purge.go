package region

import (
	"context"
	"fmt"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

const (
	// purgeEvery is how often a leader goes on looking for sessions that nobody has used for long, machine.IdleLook of them.
	purgeEvery = time.Second
	// maxGrace bounds how much longer than Config.SessionTTL a session has to be unused, which is a tenth: clocks of regions differ.
	maxGrace = time.Hour
)

// Everywhere is what has to be known of other regions before a session is purged.
type Everywhere interface {
	// Home is the region that sees to a session.
	Home(session string) string
	// CaughtUp reports whether all other regions have what a vector covers.
	CaughtUp(partition uint8, v crdt.Vector) bool
}

// Purge removes the sessions of a group that nobody has used for Config.SessionTTL, as far as they are this region's to see to, until ctx ends. It
// is for the group's leader. One that is not removed, since another region lags or the commit fails, is come to again.
func (r *Region) Purge(ctx context.Context, group int, all Everywhere) error {
	if r.cfg.SessionTTL == 0 {
		return nil
	}
	var idle machine.Idle
	g := r.all()[group]
	for pause(ctx, purgeEvery) {
		c, err := idle.Look(g.fsm.Machine, g.mask, Expiry(r.cfg.Now(), r.cfg.SessionTTL), func(session string, p uint8, seen crdt.Vector) bool {
			return all.Home(session) == r.cfg.Region && all.CaughtUp(p, seen)
		})
		if err != nil {
			return fmt.Errorf("look for sessions to purge: %w", err)
		}
		if g.attempt(ctx, c) && c != nil {
			r.metrics.purges.Add(float64(len(c.Ops)))
		}
	}
	return nil
}

// Expiry is when a session must last have been used to be purged now.
func Expiry(now time.Time, ttl time.Duration) time.Time { return now.Add(-ttl - min(ttl/10, maxGrace)) }
