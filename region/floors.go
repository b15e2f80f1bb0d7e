package region

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// feedSlack is how many records of each feed are kept although every other region has them.
const feedSlack = 1024

// Part returns some of the sessions of a partition that another region asks for, about maxBytes.
func (r *Region) Part(w *peerpb.Pull, maxBytes int) (*peerpb.Part, error) {
	g := r.of(uint8(w.Partition))
	if g == nil {
		return nil, errUnknown
	}
	return g.fsm.Part(w, maxBytes)
}

// Pull is what to ask another region for next, to take a partition's state, and whether that was begun before; nil: all has come, and is
// being merged.
func (r *Region) Pull(partition uint8, from string) (w *peerpb.Pull, resumed bool, err error) {
	g := r.of(partition)
	if g == nil {
		return nil, false, errUnknown
	}
	return g.fsm.Pull(partition, from)
}

// Install commits a part of a partition's state, as another region has it.
func (r *Region) Install(ctx context.Context, part *peerpb.Part, from string) error {
	if err := errors.Join(machine.CheckPart(part), machine.CheckSessions(part)); err != nil {
		return err
	}
	g := r.of(uint8(part.Partition))
	if g == nil {
		return errUnknown
	}
	if err := r.space.await(ctx); err != nil {
		return err
	}
	_, err := g.do(ctx, &machine.Command{Kind: machine.KindInstall, Part: part, From: from})
	g.merging.Store(true)
	return err
}

const (
	// mergeEvery is how often a leader looks whether a state is to be merged.
	mergeEvery = 250 * time.Millisecond
	// mergeBytes is about what one entry merges: puts wait for no more.
	mergeBytes = 128 << 10
)

// merge merges states that have come as a whole, while this node leads the group.
func (g *group) merge(ctx context.Context) error {
	look := time.NewTicker(mergeEvery)
	defer look.Stop()
	g.merging.Store(true) // whoever led before may not have come to the end
	for {
		for more := g.merging.Swap(false); more; {
			c, err := g.fsm.Merge(mergeBytes)
			if err != nil {
				return fmt.Errorf("look for states to merge: %w", err)
			}
			if more = c != nil; more {
				if _, err := g.do(ctx, c); err != nil && ctx.Err() == nil {
					g.r.cfg.Logger.Warn("merge the state of another region", "partition", c.Into, "from", c.From, "err", err)
					g.merging.Store(true)
					break
				}
			}
			if ctx.Err() != nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// Trim commits new floors of feeds. What they drop is durable here: Pebble is flushed before it is proposed.
func (r *Region) Trim(ctx context.Context, partitions uint64, acked func(crdt.Origin, uint8) uint64) error {
	if r.level() < machine.FloorLevel {
		return nil
	}
	keep := machine.Retention{Ops: r.cfg.FeedOps, Slack: min(feedSlack, r.cfg.FeedOps)}
	if keep.Ops == 0 {
		keep.Slack = feedSlack
	}
	var errs []error
	for _, g := range r.all() {
		if g.mask&partitions == 0 || !g.leading.Load() {
			continue
		}
		c := g.fsm.Floors(keep, acked)
		if c == nil {
			continue
		}
		if err := r.flushInTime(ctx); err != nil {
			return err
		}
		_, err := g.do(ctx, c)
		if err == nil {
			r.metrics.floors.Add(float64(len(c.Floors)))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// feedStatus adds what has become of feeds.
func (r *Region) feedStatus(s *Status) {
	names := map[crdt.OriginID]crdt.Origin{}
	for _, o := range r.Origins() {
		names[o.ID()] = o
	}
	for _, g := range r.all() {
		err := g.fsm.FloorsOf(func(f machine.Floor) {
			if s.Floors == nil {
				s.Floors = map[string]map[int]uint64{}
			}
			name := string(names[f.ID])
			if s.Floors[name] == nil {
				s.Floors[name] = map[int]uint64{}
			}
			s.Floors[name][int(f.Partition)] = f.F
		})
		transfers, err2 := g.fsm.Transfers()
		s.Transfers = append(s.Transfers, transfers...)
		if err := errors.Join(err, err2); err != nil {
			r.fail(err)
		}
	}
}
