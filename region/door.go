package region

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// all are the groups, none before their number is known.
func (r *Region) all() []*group {
	if p := r.groups.Load(); p != nil {
		return *p
	}
	return nil
}

// of returns the group that owns a partition, nil before the groups are known.
func (r *Region) of(partition uint8) *group {
	all := r.all()
	if len(all) == 0 || partition >= crdt.Partitions {
		return nil
	}
	return all[int(partition)*len(all)/crdt.Partitions]
}

var errUnknown = fmt.Errorf("the number of the region's groups is not known yet: %w", wire.ErrUnavailable)

// Groups is how many Raft groups the region has; 0: that is not known yet.
func (r *Region) Groups() int { return len(r.all()) }

// GroupOf returns the group that a session belongs to.
func (r *Region) GroupOf(session string) int {
	if g := r.of(crdt.PartitionOf(session)); g != nil {
		return g.n
	}
	return 0
}

// Known is closed when it is known how many groups the region has.
func (r *Region) Known() <-chan struct{} { return r.known }

// Partitions returns those of a group, a bit each.
func (r *Region) Partitions(group int) uint64 {
	if all := r.all(); group < len(all) {
		return all[group].mask
	}
	return 0
}

// Watch has fn told of every event from now on, on the apply goroutine of the event's group: fn must not block. The events
// of a session come in apply order, one after the other; those of different groups may come at the same time.
func (r *Region) Watch(fn func([]wire.Event)) (stop func()) { return r.watch.add(everyGroup, fn) }

// View lets read look at one session as it is at this moment. The store is read only, and ends with read.
func (r *Region) View(session string, read func(crdt.Store)) error {
	g := r.of(crdt.PartitionOf(session))
	if g == nil {
		return errUnknown
	}
	return g.fsm.View(session, read)
}

// Cursors returns how far each origin's feed of a partition is applied here, the own one included. It is not to be
// changed.
func (r *Region) Cursors(partition uint8) crdt.Vector {
	if g := r.of(partition); g != nil {
		return g.fsm.Cursors(partition)
	}
	return crdt.Vector{}
}

// Self returns the current incarnation of a partition's group, "" before the first.
func (r *Region) Self(partition uint8) crdt.Origin {
	if g := r.of(partition); g != nil {
		return g.fsm.Self()
	}
	return ""
}

// Origins returns all origins known here.
func (r *Region) Origins() (all []crdt.Origin) {
	for _, g := range r.all() {
		all = append(all, g.fsm.Origins()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Feed returns records of a feed from one position on: at least one if there is one, up to maxBytes.
func (r *Region) Feed(origin crdt.Origin, partition uint8, from uint64, maxBytes int) (wire.Records, error) {
	g := r.of(partition)
	if g == nil {
		return wire.Records{}, errUnknown
	}
	return g.fsm.Feed(origin, partition, from, maxBytes)
}

// Position returns the running hash of a feed at f, if that is held here.
func (r *Region) Position(origin crdt.Origin, partition uint8, f uint64) (wire.Position, bool) {
	if g := r.of(partition); g != nil {
		return g.fsm.Position(origin, partition, f)
	}
	return wire.Position{}, false
}

// Peers returns the other regions ever met: the first group remembers them.
func (r *Region) Peers() []string {
	g := r.of(0)
	if g == nil {
		return nil
	}
	all, err := g.fsm.Peers()
	if err != nil {
		r.fail(fmt.Errorf("read peers: %w", err))
	}
	return all
}

// Digest returns the sum of a partition's state: regions with equal cursors have equal digests.
func (r *Region) Digest(partition uint8) (uint64, error) {
	g := r.of(partition)
	if g == nil {
		return 0, errUnknown
	}
	return g.fsm.Digest(partition)
}

// Lead runs fn while this node leads a group and has applied all that was committed before. fn's context ends
// with the leadership; Lead waits for fn, and runs it again in the next term. Lead returns when ctx ends, or with
// fn's error if fn fails while it leads.
func (r *Region) Lead(ctx context.Context, group int, fn func(context.Context) error) error {
	select {
	case <-r.known:
	case <-ctx.Done():
		return nil
	}
	return r.all()[group].Lead(ctx, fn)
}

// Led is the partitions of the groups that this node leads, a bit each: it has applied all that was committed before it did.
func (r *Region) Led() (led uint64) {
	for _, g := range r.all() {
		if g.leading.Load() {
			led |= g.mask
		}
	}
	return led
}

// Leader is the peer address of the other node that leads the group of the first of some partitions, "" if there is none
// or it is not known.
func (r *Region) Leader(partitions uint64) string {
	g := r.of(uint8(bits.TrailingZeros64(partitions)))
	if g == nil {
		return ""
	}
	id, _ := g.leader.now()
	if r.cfg.Cluster == nil || id == r.id {
		return ""
	}
	for _, m := range r.cfg.Cluster.Members() {
		if m.ID == id {
			return m.Addr
		}
	}
	return ""
}

// Leaders are the peer addresses of the other nodes that lead a group, as far as they are known.
func (r *Region) Leaders() (all []string) {
	for _, g := range r.all() {
		if addr := r.Leader(g.mask); addr != "" && !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	return all
}

// Commits is one group as whoever brings its answers sees it. Until it is known how many groups there are, it cannot commit.
type Commits struct {
	r *Region
	n int
}

// Commits returns a group's.
func (r *Region) Commits(group int) Commits { return Commits{r, group} }

func (c Commits) group() (*group, error) {
	if all := c.r.all(); c.n < len(all) {
		return all[c.n], nil
	}
	return nil, errUnknown
}

// Answer commits workers' reports on sessions of the group, and with them the position in the group's results stream up to
// which they were read.
func (c Commits) Answer(ctx context.Context, ops []*crdt.Op, position string) ([]crdt.Held, error) {
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	return g.answer(ctx, ops, position)
}

// Open returns the group's answers that are not closed, and the position up to which its results were read.
func (c Commits) Open() (runs []wire.OpenRun, position string, err error) {
	g, err := c.group()
	if err != nil {
		return nil, "", err
	}
	return g.fsm.Open()
}

// View is Region.View.
func (c Commits) View(session string, read func(crdt.Store)) error { return c.r.View(session, read) }

// Watch is Region.Watch, for the group's events.
func (c Commits) Watch(fn func([]wire.Event)) (stop func()) { return c.r.watch.add(c.n, fn) }
