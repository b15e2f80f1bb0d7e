package region

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// Home is the region's name.
func (r *Region) Home() string { return r.cfg.Region }

// OriginsOf are the origins that the group of a partition knows.
func (r *Region) OriginsOf(partition uint8) []crdt.Origin {
	if g := r.of(partition); g != nil {
		return g.fsm.Origins()
	}
	return nil
}

// Finals is what is closed in a partition. It is not to be changed.
func (r *Region) Finals(partition uint8) crdt.Finals {
	if g := r.of(partition); g != nil {
		return g.fsm.Finals(partition)
	}
	return nil
}

// Evictions are the regions that were given up: the first group remembers them, and each group whether that was done to its own region. It is
// not to be changed.
func (r *Region) Evictions(partition uint8) crdt.Evictions {
	g := r.of(partition)
	if g == nil {
		return nil
	}
	all := r.all()[0].fsm.Evictions()
	if own, ok := g.fsm.Evictions()[r.cfg.Region]; g.n != 0 && (ok || len(all) > 0) {
		all = maps.Clone(all)
		if delete(all, r.cfg.Region); ok {
			all[r.cfg.Region] = own
		}
	}
	return all
}

// CloseOrigins commits that nobody numbers under some origins any more, in the groups that this node leads. Before the region can, nothing
// happens.
func (r *Region) CloseOrigins(ctx context.Context, finals []wire.Final) (err error) {
	if r.level() < machine.FinalLevel {
		return nil
	}
	for _, g := range r.all() {
		c := &machine.Command{Kind: machine.KindClose}
		for _, f := range finals {
			if g.mask&(1<<f.Partition) != 0 {
				c.Finals = append(c.Finals, f)
			}
		}
		if len(c.Finals) == 0 || !g.leading.Load() {
			continue
		}
		_, failed := g.do(ctx, c)
		if err = errors.Join(err, failed); failed == nil {
			r.metrics.closed.Add(float64(len(c.Finals)))
		}
	}
	return err
}

// Evict commits that a region was given up, or what others say of that, in the groups that this node leads and that remember it.
func (r *Region) Evict(ctx context.Context, region string, e crdt.Eviction) (err error) {
	if r.level() < machine.FinalLevel {
		return nil
	}
	for _, g := range r.all() {
		if (g.n == 0 || region == r.cfg.Region) && g.leading.Load() {
			_, failed := g.do(ctx, &machine.Command{Kind: machine.KindEvict, Peer: region, Eviction: e})
			err = errors.Join(err, failed)
		}
	}
	return err
}

// ErrCannotEvict is for a region that is to be given up, and may not, or not from here.
var ErrCannotEvict = errors.New("the region is not evicted")

// GiveUp commits that a region is given up, up to an incarnation. Only the leader of the first group can.
func (r *Region) GiveUp(ctx context.Context, region string, bound uint64) error {
	all := r.all()
	switch {
	case len(all) == 0:
		return errUnknown
	case r.level() < machine.FinalLevel:
		return fmt.Errorf("%w: this region is at feature level %d and needs %d, which is committed a minute after all its nodes run a version that knows it",
			ErrCannotEvict, r.level(), machine.FinalLevel)
	case !all[0].leading.Load():
		return fmt.Errorf("%w: ask the node that leads the first group: %s", ErrCannotEvict, r.leaderName())
	}
	_, err := all[0].do(ctx, &machine.Command{Kind: machine.KindEvict, Peer: region, Eviction: crdt.Eviction{Bound: bound}})
	return err
}

// leaderName is the raft id of the node that leads the first group.
func (r *Region) leaderName() string {
	if id, _ := r.all()[0].leader.now(); id != "" {
		return id
	}
	return "none does now, so try again in a second"
}

// evictedGrace is how long a node of a region that was evicted stays: the others are to hear of what it has found out.
const evictedGrace = time.Second

// birthLook is how often a leader looks whether the region can note when the state began.
const birthLook = 250 * time.Millisecond

// noteBirth commits under which incarnation the state began, as soon as the region can, while this node leads the group.
func (g *group) noteBirth(ctx context.Context) error {
	look := time.NewTicker(birthLook)
	defer look.Stop()
	for !g.fsm.Born() {
		if g.r.level() >= machine.FinalLevel && g.fsm.Self() != "" {
			if _, err := g.do(ctx, &machine.Command{Kind: machine.KindBorn}); err != nil && ctx.Err() == nil {
				g.r.cfg.Logger.Warn("when the state began is not noted; tried again", "group", g.n, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
	<-ctx.Done()
	return nil
}

// noteEvicted has the node look whether it can stay. It runs on the apply goroutine.
func (g *group) noteEvicted() {
	select {
	case g.evicted <- struct{}{}:
	default:
	}
}

// leaveEvicted ends the node if it holds what the others have closed without it, and that stays so. What it has found out is durable then: a
// start sees it at once.
func (g *group) leaveEvicted(ctx context.Context) error {
	for {
		select {
		case <-g.evicted:
		case <-ctx.Done():
			return nil
		}
		if g.checkEvicted() == nil {
			continue
		}
		select {
		case <-time.After(evictedGrace):
		case <-ctx.Done():
			return nil
		}
		if err := g.checkEvicted(); err != nil { // else the others have taken in more
			return errors.Join(err, g.r.flush())
		}
	}
}

// checkEvicted ends a node of a region that was evicted, and holds what the others have closed without it.
func (g *group) checkEvicted() error {
	if g.r.reading || !g.fsm.Fenced() {
		return nil
	}
	n := g.fsm.Beyond()
	if n == 0 {
		return nil
	}
	return fmt.Errorf("region %s was evicted while it was away, and its disks hold %d ops that no other region has: nothing is numbered here any more. "+
		"Move --data of all its nodes away, and start them empty: the region gets all the rest from the others, and goes on under a new incarnation. "+
		"Then have a region take in what these disks hold: roam region salvage", g.r.cfg.Region, n)
}
