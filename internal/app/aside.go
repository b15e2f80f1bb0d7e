package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region"
	"github.com/roamsync/roam/region/salvage"
	"github.com/roamsync/roam/replication"
	"github.com/roamsync/roam/wire"
)

const (
	// asideRetry is the time between two tries to take in what was put aside, and asideLook how often it is looked whether the region has
	// what the others have.
	asideRetry = 5 * time.Second
	asideLook  = 100 * time.Millisecond
	// asideCauses is how long one try waits for what ops depend on.
	asideCauses = 30 * time.Second
)

// forked has a region begin anew under whose own numbers another one holds something else: it can give others to what it has. If two other
// regions hold different things, that is for an operator to see.
func (n *node) forked(o crdt.Origin, peer string) {
	if err := n.region.Rebuild(o, peer); err != nil {
		n.log.Error("the region does not begin anew by itself: see RoamFork", "origin", o, "why", err)
	}
}

// takeAside takes in what was put aside when the region began anew, once it has all that the other region has.
func (n *node) takeAside(ctx context.Context) error {
	for said := false; ; said = true {
		a := n.region.Aside()
		if a == nil {
			return nil
		}
		if !said {
			n.log.Info("what was put aside is taken in as soon as another region is heard, and this one has what that has", "dir", a.Dir, "other", a.Peer)
		}
		done, err := n.tryAside(ctx, a)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			n.log.Warn("what only the state that was put aside had is taken in", "ops", done.Put, "known", done.Known, "before", done.There)
			return n.region.TakenIn(a)
		case errors.Is(err, errNotWhole):
			n.log.Error("not all of the state that was put aside could be taken in; it is kept", "dir", a.Dir, "ops", done.Put, "err", err)
			return nil
		}
		n.log.Warn("what was put aside is not taken in yet; tried again", "dir", a.Dir, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(asideRetry):
		}
	}
}

func (n *node) tryAside(ctx context.Context, a *region.Aside) (all salvage.Done, err error) {
	if !n.awaitLevel(ctx, a.Peer) {
		return all, ctx.Err()
	}
	work := a.Dir + ".work"
	if err := os.RemoveAll(work); err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	disk, err := region.OpenFound(a.Dir, work, n.log)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	var broken []error
	if disk.Torn != nil {
		broken = append(broken, disk.Torn)
	}
	err = disk.Do(func() error {
		for p := range uint8(crdt.Partitions) {
			done, err := n.takePartition(ctx, disk, p)
			if all.Add(done); errors.Is(err, salvage.ErrDisk) {
				broken = append(broken, err)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(broken) > 0 {
		err = errors.Join(append([]error{errNotWhole}, broken...)...)
	}
	return all, err
}

func (n *node) takePartition(ctx context.Context, disk *region.Found, p uint8) (done salvage.Done, err error) {
	plan, err := salvage.Compare(ctx, disk.Of(p), p, atHome{n}, false)
	if err != nil {
		return done, err
	}
	if done, err = plan.Put(ctx, disk.Of(p), atHome{n}, asideCauses); err != nil {
		return done, err
	}
	for _, b := range plan.Branches {
		if m := b.Missing(); m > 0 {
			return done, fmt.Errorf("%w: partition %d: %d ops of %s are not kept as such", salvage.ErrDisk, p, m, b.Origin)
		}
	}
	return done, nil
}

// awaitLevel waits until the region has all that others are known to have, and another is heard.
func (n *node) awaitLevel(ctx context.Context, peer string) bool {
	for !n.level(peer) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(asideLook):
		}
	}
	return true
}

func (n *node) level(peer string) bool {
	if !slices.ContainsFunc(n.links.Absents(), func(a replication.Absent) bool { return a.Region == peer && a.Heard }) {
		return false
	}
	for p := range uint8(crdt.Partitions) {
		if most, _ := n.pool.Held(p); !n.region.Cursors(p).Covers(most) {
			return false
		}
	}
	return true
}

// atHome has this node's region take in what was found. It is a region of one node, which leads.
type atHome struct{ n *node }

// Held implements salvage.Living.
func (h atHome) Held(_ context.Context, p uint8, at []salvage.Mark) ([]salvage.Held, error) {
	return h.n.heldOf(heldAsked{p, at})
}

// Erased implements salvage.Living.
func (h atHome) Erased(_ context.Context, p uint8, sessions []string) (map[string]crdt.Stamp, error) {
	return h.n.erasedOf(erasedAsked{p, sessions})
}

// Expect implements salvage.Living.
func (h atHome) Expect(ctx context.Context, ends []wire.Final) error {
	return h.n.expect(ctx, expected{ends[0].Partition, ends})
}

// Take implements salvage.Living.
func (h atHome) Take(ctx context.Context, rs wire.Records) (cursor, known uint64, err error) {
	t, err := h.n.takeIn(ctx, takenIn{rs.Partition, rs.Origin, rs.From, rs.Records, rs.Hash[:]})
	return t.Cursor, t.Known, err
}
