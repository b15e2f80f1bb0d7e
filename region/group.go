package region

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// maxGroups is how many Raft groups a region can have.
const maxGroups = 16

func validGroups(n int) bool { return n > 0 && n <= maxGroups && n&(n-1) == 0 }

// group is this node's part in one of its region's Raft groups, which owns a range of partitions: it orders their ops,
// numbers them under an incarnation of its own, and has a leader of its own.
type group struct {
	r         *Region
	n         int
	mask      uint64 // the partitions, a bit each
	proof     proof
	voted     votes
	leaps     leaps
	log       *stallWatch
	stable    raft.StableStore
	snaps     raft.SnapshotStore
	raft      *raft.Raft
	opened    atomic.Pointer[raft.Raft] // the same, for who is called by it, and may be before it is returned
	store     store
	fsm       *fsm
	transport raft.Transport
	queue     chan *proposal
	evicted   chan struct{} // the region was given up, and something was applied since
	merging   atomic.Bool   // there may be states to merge
	torn      error         // of a disk that was found: why its log does not follow its state
	leading   atomic.Bool   // all that was committed before is applied, and there is an incarnation to number under
	term      atomic.Uint64 // in which it leads, or has led last
	leader    *leader
	taking    atomic.Pointer[Taking] // while the state of another node is taken
	keep      logKeep
	tuning    sync.Mutex // of what Raft lets be changed
	hush      hush       // owned by notice
	seat      seat       // owned by tend, as all that follows
	level     levelSeat
	deadSince map[string]time.Time // nodes of the group, by raft id
	troubled  string               // what went wrong when the group was last to be changed
}

// partitionsOf returns the partitions of one of so many groups, a bit each.
func partitionsOf(group, groups int) uint64 {
	width := crdt.Partitions / groups
	return (^uint64(0) >> (64 - width)) << (group * width)
}

// checkGroups reads how many groups there are. A directory that an older version made has one.
func (r *Region) checkGroups() error {
	v, err := r.own().Get(machine.NodeKey(nodeGroups))
	switch {
	case err != nil:
		return err
	case v == nil:
		r.count = 1
	case len(v) != 1 || v[0] > 0 && !validGroups(int(v[0])):
		return fmt.Errorf("the number of Raft groups does not read: %x", v)
	default:
		r.count = int(v[0])
	}
	return r.agree(r.count)
}

// agree refuses another number of groups than the region has.
func (r *Region) agree(count int) error {
	if r.cfg.Groups == 0 || count == 0 || r.cfg.Groups == count {
		return nil
	}
	return fmt.Errorf("--groups %d: region %s was founded with %d, and that is for good: start this node with --groups %d or without the flag",
		r.cfg.Groups, r.cfg.Region, count, count)
}

// decide keeps the number of groups.
func (r *Region) decide(count int) error {
	if err := r.agree(count); err != nil {
		return err
	}
	r.count = count
	return errors.Join(r.db.Set(machine.NodeKey(nodeGroups), []byte{byte(count)}, pebble.NoSync), r.flush())
}

// openGroups opens this node's part in all groups: first what is on the disk, then what others see.
func (r *Region) openGroups() error {
	if err := r.openCopies(); err != nil {
		return err
	}
	r.openLanes()
	for _, g := range r.held {
		if err := g.openRaft(); err != nil {
			return err
		}
	}
	r.groups.Store(&r.held)
	close(r.known)
	return nil
}

// prefix is before all keys of a group's state. A region of one group needs none, and had none before there were more.
func (r *Region) prefix(group int) []byte {
	if r.count == 1 {
		return nil
	}
	return []byte{groupSpace + byte(group)}
}

// groupSpace is above all keys of a node's own.
const groupSpace = 0x80

// named is a name of this group's own among those of the node.
func (g *group) named(name string) string {
	if g.r.count == 1 {
		return name
	}
	return fmt.Sprintf("%s/%d", name, g.n)
}

// dir is the group's own directory, below one of the region's.
func (g *group) dir(sub string) string {
	if g.r.count == 1 {
		return filepath.Join(g.r.cfg.Dir, sub)
	}
	return filepath.Join(g.r.cfg.Dir, sub, fmt.Sprintf("%02d", g.n))
}

// openState opens the group's log and state, and checks that they belong together.
func (g *group) openState() error {
	m, err := machine.New(machine.Config{
		Region: g.r.cfg.Region, Entry: g.r.entry, Store: g.store, Watch: g.tell, Tracer: g.r.cfg.Tracer,
		Level: g.r.cfg.level, SessionBytes: g.r.cfg.SessionBytes / g.r.count,
	})
	g.fsm = &fsm{Machine: m, flush: func() error { return g.r.flushInTime(context.Background()) }, tell: g.tell, fatal: g.r.fail, fetch: g.fetch, strayed: g.leftBehind, unstage: g.unstage, evicted: g.noteEvicted}
	if err == nil {
		err = g.checkEvicted()
	}
	if err != nil {
		return err
	}
	log, stable, err := g.r.logs.open(g.n)
	if err != nil {
		return fmt.Errorf("raft log: %w", g.r.opened("the Raft log", err))
	}
	g.log = &stallWatch{
		LogStore: log, limit: g.r.cfg.StallLimit, fail: g.r.fail, quit: g.r.quit, damaged: g.r.damaged, metrics: g.r.metrics, cutBack: g.cutBack,
	}
	g.stable = watchedVotes{stable, g.log, &g.voted}
	if g.snaps, err = g.openSnapshots(); err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	g.snaps = watchedSnapshots{g.snaps, g.r.fail}
	g.voted.proof = &g.proof
	err = errors.Join(g.checkSnapshot(), g.checkLog(), g.checkAstray())
	if g.r.reading && errors.Is(err, errTorn) {
		g.torn, err = err, nil
	}
	return err
}

// taken is the index of the state that was last taken from another node, 0 for none.
func (g *group) taken() (uint64, error) {
	v, err := g.r.own().Get(machine.NodeKey(g.named(nodeTaken)))
	if err != nil || v == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// halt ends Raft in the group.
func (g *group) halt() error {
	var errs []error
	if g.raft != nil {
		errs = append(errs, g.raft.Shutdown().Error())
	}
	if c, ok := g.transport.(raft.WithClose); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// leads reports whether the node leads, in the term that it may number in: after an election that nobody has noticed it may not yet.
func (g *group) leads() bool { return g.leading.Load() && g.raft.CurrentTerm() == g.term.Load() }

// begin has an incarnation that the group may number under: the one that there is, if enough nodes can tell that nothing of it is forgotten, or a
// new one.
func (g *group) begin(ctx context.Context, term uint64) error {
	since := g.proof.since()
	g.level.fresh = g.fsm.Self() == ""
	why := g.whyAnew()
	for backed := !g.level.fresh && g.backed(ctx, term); g.fsm.MustRenew(backed); {
		err := ctx.Err() // who ceases to lead has asked in vain
		if err == nil {
			backed, err = g.renewFirst(ctx, why)
		}
		if err != nil {
			return err
		}
	}
	g.proof.give(since)
	return nil
}

// whyAnew tells operators for what reason a new incarnation is begun, if one is.
func (g *group) whyAnew() string {
	own := func(o crdt.Origin) bool { return o.Region() == g.r.cfg.Region }
	switch {
	case g.fsm.Self() != "":
		return "too few of the nodes that vote can tell that no disk has gone back: their processes have begun since, and the last did not end in order, or long ago, or in another directory"
	case slices.ContainsFunc(g.fsm.Origins(), own):
		return "the state was restored from a backup, or recovered: nothing is numbered under what it was"
	default:
		return "first start"
	}
}

// lead is the leader's part, for a term: a group that must gets a new incarnation before it takes anything in, nodes are taken into
// the group, and sessions are kept from becoming too long.
func (g *group) lead(ctx context.Context, term uint64) error {
	g.level = levelSeat{}
	if err := g.begin(ctx, term); err != nil {
		return err
	}
	g.term.Store(term)
	g.seat = seat{led: time.Now()}
	g.leading.Store(true)
	defer g.leading.Store(false)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return g.tend(ctx) })
	work.Go(func() error { return g.noteBirth(ctx) })
	if g.r.cfg.SessionEntries > 0 {
		work.Go(func() error { return g.trim(ctx) })
	}
	return work.Wait()
}
