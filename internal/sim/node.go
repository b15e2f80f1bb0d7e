package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
)

var (
	errLost      = errors.New("leadership was lost")
	errNotLeader = fmt.Errorf("this node does not lead its region: %w", wire.ErrUnavailable)
)

// node is one node of a region: its disk, and the process that runs on it.
type node struct {
	g    *group
	w    *world
	name string
	at   int // in its group

	// the disk
	durable *machine.Mem  // what was flushed of the state
	flushed time.Duration // when
	clean   bool          // the last process ended in order

	// the machine's clock
	skew  time.Duration
	drift float64 // seconds a second
	since time.Duration

	isolated bool // from the other nodes of the region

	// the process
	up       bool
	proven   bool // as region.Region has it
	life     int
	terms    int // in which it has led
	paused   bool
	slow     time.Duration // what everything takes longer
	deferred []func()
	mem      *machine.Mem
	m        *machine.Machine
	watchers []*watcher
	clock    crdt.Clock
	leading  bool
	queue    []*proposal
	busy     bool
	matrix   *feeds.Matrix // of the process: all its groups know the same
	gossip   *feeds.Gossip
	eager    feeds.Eager
	talk     *rand.Rand
	door     *door
	links    map[*group]*stream // by the group that is followed
	waits    uint64             // partition that clients of the region wait for, as a bit
	quiet    *feeds.Silence
	served   []*stream
	lead     *leadership
	growth   *machine.Growth
	idle     *machine.Idle
	gone     *machine.Gone
	began    time.Duration         // when the process was started
	counted  int                   // other regions that counted when clients were last told what is safe for that reason
	doubted  uint64                // partitions in which that was in doubt then, a bit each
	seen     map[feeds.Feed]uint64 // by the checkers
}

type watcher struct{ fn func([]wire.Event) }

// proposal is a command on its way.
type proposal struct {
	cmd   *machine.Command
	since time.Duration
	done  func(machine.Result) // nil for puts
	fail  func(error)          // puts only
}

func (p *proposal) end(r machine.Result) {
	switch {
	case p.done != nil:
		p.done(r)
	case r.Err != nil && p.fail != nil:
		p.fail(r.Err)
	}
}

// after has the process do something later, unless it ends before. A process that is paused does it when it goes on.
func (n *node) after(d time.Duration, fn func()) *event {
	life := n.life
	return n.w.after(d+n.slow, func() {
		switch {
		case n.life != life || !n.up:
		case n.paused:
			n.deferred = append(n.deferred, fn)
		default:
			fn()
		}
	})
}

// now is what the machine's clock shows.
func (n *node) now() time.Time {
	d := n.w.now - n.since
	return n.w.time().Add(n.skew + time.Duration(float64(d)*n.drift))
}

// start begins a process on what the disk has.
func (n *node) start() {
	if n.up || n.g.away {
		return
	}
	n.up, n.paused, n.leading, n.busy, n.deferred, n.queue = true, false, false, false, nil, nil
	n.proven, n.clean = n.clean, false
	n.life++
	n.clock, n.links, n.served, n.lead = crdt.Clock{}, map[*group]*stream{}, nil, nil
	if n.matrix = n.first().matrix; n.first() == n {
		n.matrix = &feeds.Matrix{}
	}
	n.mem = n.durable.Clone()
	n.g.troubled = n.w.now
	n.load()
	n.watchers = nil
	n.beginGossip()
	n.door = newDoor(n)
	n.counted, n.doubted, n.began = 0, 0, n.w.now
	n.after(recountEvery, n.recount)
	n.after(between(n.g.rng, 20*time.Millisecond, 200*time.Millisecond), func() {
		n.catchUp()
		n.g.look()
	})
}

func (n *node) load() {
	m, err := machine.New(machine.Config{
		Region: n.g.name, Entry: fmt.Sprintf("%s%d.%d", n.g.name[:1], n.at, n.life), Store: n.mem, Watch: n.tell,
		HotSessions: 2, SessionBytes: 1 << 20, // so that sessions get cold, and come back
		RecentBytes: 4 << 10, // so that feeds are read from memory, and from the store
	})
	if err != nil {
		n.w.violate("state", "%s does not start: %v", n, err)
	}
	n.m = m
	n.remember()
	n.g.checkEvicted(n)
}

// kill ends the process: what is not durable is gone.
func (n *node) kill() {
	if !n.up {
		return
	}
	n.stop()
	n.up = false
	n.g.troubled = n.w.now
	n.g.look()
}

// quit ends the process in order.
func (n *node) quit() {
	if !n.up || n.paused {
		return
	}
	n.flush()
	n.clean = true
	n.kill()
}

// stop lets go of all that the process holds.
func (n *node) stop() {
	n.resign()
	for _, s := range append([]*stream{}, n.served...) {
		s.serverGone()
	}
	n.door.shut()
	n.life++ // nothing that was planned happens
}

// flush makes durable what the state has.
func (n *node) flush() { n.durable, n.flushed = n.mem.Clone(), n.w.now }

// loseDisk empties the disk of a node that is down.
func (n *node) loseDisk() { n.durable = machine.NewMem() }

func (n *node) String() string { return n.g.name + "/" + n.name }

// pause stops the process's time.
func (n *node) pause() {
	if n.up && !n.paused {
		n.paused = true
		n.g.troubled = n.w.now
		n.g.look()
	}
}

func (n *node) resume() {
	if !n.paused {
		return
	}
	n.paused = false
	n.g.troubled = n.w.now
	late := n.deferred
	n.deferred = nil
	life := n.life
	for _, fn := range late {
		if n.life == life && n.up && !n.paused {
			fn()
		}
	}
	n.after(0, func() {
		n.catchUp()
		n.g.look()
	})
}

// catchUp applies what is committed, or takes the state of another node if the log is cut.
func (n *node) catchUp() {
	if n.isolated && n.g.leader != n {
		return
	}
	if int(n.m.Applied()) < n.g.first {
		n.transfer()
		return
	}
	_, _ = n.applyTo(len(n.g.log))
	n.proven = n.proven || n.g.leader != nil && n.g.leader.leading
	if n.g.rng.IntN(16) == 0 {
		n.flush()
	}
}

// transfer replaces the state by that of another node, all at once.
func (n *node) transfer() {
	from := n.g.source(n)
	if from == nil {
		n.after(200*time.Millisecond, n.catchUp)
		return
	}
	n.w.tell("%s takes the state of %s, at entry %d", n, from, from.m.Applied())
	lo, hi := machine.Shared()
	fresh := machine.NewMem()
	_ = from.mem.Scan(lo, hi, false, func(k, v []byte) bool { fresh.Set(k, v); return true })
	*n.mem = *fresh
	n.flush()
	if err := n.m.Load(); err != nil {
		n.w.violate("state", "%s does not load what it took: %v", n, err)
	}
	n.remember()
	for _, wt := range n.watchers {
		wt.fn([]wire.Event{{Reset: true}})
	}
	n.after(0, n.catchUp)
}

// applyTo applies the log up to an index, and returns what came of the last entry.
func (n *node) applyTo(index int) (res []machine.Result, err error) {
	for at := int(n.m.Applied()); at < min(index, len(n.g.log)); at++ {
		if res, err = n.m.Apply(uint64(at+1), n.g.log[at], false); err != nil {
			n.w.violate("apply", "%s: %v", n, err)
			return nil, err
		}
	}
	n.g.checkEvicted(n)
	return res, nil
}

// tell is told by the machine of what was applied.
func (n *node) tell(events []wire.Event) {
	n.w.checkEvents(n, events)
	if n.growth != nil {
		n.growth.Note(events)
	}
	for _, wt := range n.watchers {
		wt.fn(events)
	}
	if n.lead != nil {
		n.after(0, n.lookAtAnswers)
	}
}

func (n *node) lookAtAnswers() {
	if n.lead != nil {
		n.lead.looked()
	}
}

// Watch implements gateway.Backend and dispatch.Commits.
func (n *node) Watch(fn func([]wire.Event)) (stop func()) {
	wt := &watcher{fn}
	n.watchers = append(n.watchers[:len(n.watchers):len(n.watchers)], wt)
	return func() {
		kept := make([]*watcher, 0, len(n.watchers))
		for _, o := range n.watchers {
			if o != wt {
				kept = append(kept, o)
			}
		}
		n.watchers = kept
	}
}

// Submit implements gateway.Backend.
func (n *node) Submit(p *wire.Put) error {
	return n.propose(&proposal{
		cmd: &machine.Command{
			Kind: machine.KindPut, Session: p.Session, Floor: p.Floor, Ops: p.Ops, Tag: p.Tag,
			Entry: fmt.Sprintf("%s%d.%d", n.g.name[:1], n.at, n.life),
		},
		since: n.w.now, fail: p.Fail,
	})
}

// View implements gateway.Backend and dispatch.Commits.
func (n *node) View(session string, read func(crdt.Store)) error { return n.m.View(session, read) }

// Cursors implements gateway.Backend and feeds.Local.
func (n *node) Cursors(p uint8) crdt.Vector { return n.of(p).m.Cursors(p) }

// Self implements feeds.Local.
func (n *node) Self(p uint8) crdt.Origin { return n.of(p).m.Self() }

// Position implements feeds.Local.
func (n *node) Position(o crdt.Origin, p uint8, f uint64) (wire.Position, bool) {
	return n.of(p).m.Position(o, p, f)
}

// Feed implements feeds.Local.
func (n *node) Feed(o crdt.Origin, p uint8, from uint64, maxBytes int) (wire.Records, error) {
	return n.of(p).m.Feed(o, p, from, maxBytes)
}

// Open implements dispatch.Commits.
func (n *node) Open() ([]wire.OpenRun, string, error) { return n.m.Open() }

// backed reports whether a majority can tell that nothing was numbered that is forgotten.
func (n *node) backed() bool {
	all := n.g.voters()
	all = slices.DeleteFunc(all, func(o *node) bool { return !o.proven })
	return machine.Backed(len(all), len(n.g.nodes))
}

// assume begins to lead: what was committed before is applied. backed: it may go on under the incarnation that there is.
func (n *node) assume(backed bool) {
	if n.g.leader != n || n.leading {
		return
	}
	n.w.checkLeader(n)
	if n.m.MustRenew(backed) { // before anything that waits is numbered
		n.w.tell("%s begins a new incarnation", n)
		n.w.counts.Begun++
		n.g.append(n, machine.EncodeEntry([][]byte{n.renewal(n.m.Self(), 0).Encode()}), func(_ []machine.Result, err error) {
			if err == nil {
				n.assume(true)
				return
			}
			n.after(retryPause, func() { n.assume(n.backed()) })
		})
		return
	}
	n.leading, n.proven = true, true
	n.terms++
	n.shorten()
	n.mergeStates()
	n.closeOrigins()
	if !n.m.Born() {
		n.do(&machine.Command{Kind: machine.KindBorn}, func(machine.Result) {})
	}
	n.spread(n.terms)
	n.quiet = feeds.NewSilence(n)
	for _, g := range n.w.groups {
		if n.g.follows(g) {
			n.quiet.Follow(g.name, n.g.mask&g.mask, n.w.time())
			n.dial(g, between(n.g.rng, 0, 100*time.Millisecond))
		}
	}
	if n.g.redis != nil {
		n.lead = newLeadership(n)
	}
	n.growth = machine.NewGrowth(n.w.plan.Keep)
	n.trim(n.growth)
	n.idle = &machine.Idle{}
	n.purge(n.idle)
	n.gone = &machine.Gone{}
	n.expire(n.gone)
}

// trim keeps sessions from becoming too long, as the product does.
func (n *node) trim(g *machine.Growth) {
	if n.growth != g || n.w.plan.Keep == 0 {
		return
	}
	c, err := g.Trim(n.View)
	if err != nil {
		n.w.violate("state", "%s: %v", n, err)
	}
	if c != nil {
		n.do(c, func(machine.Result) {})
	}
	n.after(trimEvery, func() { n.trim(g) })
}

// resign ends what only a leader does.
func (n *node) resign() {
	n.leading, n.growth, n.idle, n.gone = false, nil, nil, nil
	for _, g := range n.w.groups {
		if s := n.links[g]; s != nil {
			s.followerGone()
		}
	}
	if n.lead != nil {
		n.lead.end()
		n.lead = nil
	}
}

// renewal is the command for a new incarnation, as the product makes it.
func (n *node) renewal(lost crdt.Origin, above uint64) *machine.Command {
	inc := crdt.NextIncarnation(n.now(), n.g.rng.Uint32(), max(lost.Incarnation(), above))
	next := crdt.NewOrigin(n.g.name, inc)
	n.w.issuers[next] = n.g
	return &machine.Command{Kind: machine.KindRenew, Lost: lost, Next: next}
}

// renew goes on under a new incarnation.
func (n *node) renew(r *feeds.Renew) {
	n.w.tell("%s: a new incarnation instead of %s: %s", n, r.Lost, r.Why)
	n.do(n.renewal(r.Lost, r.Above), func(machine.Result) {})
}
