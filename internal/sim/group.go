package sim

import (
	"math/rand/v2"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// Times of the Raft that is modelled; hashicorp/raft as the product sets it up.
const (
	fsyncMin, fsyncMax       = 300 * time.Microsecond, 4 * time.Millisecond
	hopMin, hopMax           = 100 * time.Microsecond, 600 * time.Microsecond // between nodes of a region
	electionMin, electionMax = 250 * time.Millisecond, 700 * time.Millisecond
	lease                    = 250 * time.Millisecond
	retryPause               = 20 * time.Millisecond
	commitDeadline           = 10 * time.Second
	batchOps                 = 1024
	queueLength              = 8192
)

// group is a region's Raft group as a model: a log of committed entries, and at most one leader that can add to it.
type group struct {
	w      *world
	name   string // of its region
	region *region
	part   int    // which of the region's groups it is
	mask   uint64 // its partitions, a bit each
	nodes  []*node
	rng    *rand.Rand
	trims  *rand.Rand

	log      [][]byte        // committed; entry i has index i+1
	times    []time.Duration // when each was
	first    int             // entries with a smaller index are cut
	leader   *node           // who can commit, or nil
	flight   *flight         // the leader's entry that is not committed yet
	voting   *event
	stall    time.Duration // until when the leader's disk hangs
	shaky    bool          // answers are lost although entries are committed
	shut     int           // accesses that are cut
	away     bool          // the region is gone, until all else is well
	out      bool          // somebody has given the region up, and it has not come back
	wasAlone bool          // it had no other one to count on, when it applied something last
	alone    time.Duration // until when that was so
	bound    uint64        // the last incarnation that was given up
	forgot   bool          // disks of it were lost, or went back, some time
	numbers  crdt.Origin   // what it numbered under when a node of it applied something last
	issued   crdt.Stamp    // the last stamp that was given here
	forgets  int           // how often it lost the end of its log
	checked  int           // entries that the checkers have seen
	oids     map[string]int
	troubled time.Duration // when the region was last broken from inside
	redis    *redis
	workers  []*worker
}

// flight is an entry on its way to a majority.
type flight struct {
	by   *node
	data []byte
	ev   *event
	done func([]machine.Result, error)
}

// majority reports whether enough nodes are up and reach each other.
func (g *group) majority() bool { return 2*len(g.voters()) > len(g.nodes) }

// voters are the nodes that are up and reach each other.
func (g *group) voters() (all []*node) {
	for _, n := range g.nodes {
		if n.up && !n.paused && !n.isolated {
			all = append(all, n)
		}
	}
	return all
}

// look sees to it that there is a leader if there can be one, and none if not.
func (g *group) look() {
	if l := g.leader; l != nil && (!l.up || l.paused || l.isolated || !g.majority()) {
		g.depose()
	}
	if g.leader == nil && g.voting == nil && g.majority() {
		d := between(g.rng, electionMin, electionMax)
		if len(g.nodes) == 1 {
			d = between(g.rng, hopMin, 20*time.Millisecond)
		}
		g.voting = g.w.after(d, g.elect)
	}
}

// depose ends the leader's time. What was on its way to a majority is committed, or it is not. Who led notices within its
// lease, and goes on answering until then.
func (g *group) depose() {
	old := g.leader
	g.leader = nil
	if f := g.flight; f != nil {
		g.flight = nil
		f.ev.cancel()
		if len(g.nodes) > 1 && g.rng.IntN(2) == 0 {
			g.w.tell("%s: an entry of the leader that was lost is committed all the same", g.name)
			g.add(f.data)
		}
		old.after(0, func() { f.done(nil, errLost) })
	}
	old.after(between(g.rng, 0, lease), func() {
		if g.leader != old {
			old.resign()
		}
	})
}

func (g *group) elect() {
	g.voting = nil
	voters := g.voters()
	if g.leader != nil || !g.majority() {
		return
	}
	n := voters[g.rng.IntN(len(voters))]
	g.leader = n
	n.resign()
	g.w.tell("%s: %s leads", g.name, n.name)
	n.after(between(g.rng, hopMin, hopMax), func() {
		if g.leader == n {
			n.catchUp()
			n.assume(n.backed())
		}
	})
}

// append takes an entry of the leader through its disk and those of the others.
func (g *group) append(n *node, data []byte, done func([]machine.Result, error)) {
	if g.leader != n || g.flight != nil {
		n.after(0, func() { done(nil, errLost) })
		return
	}
	d := between(g.rng, fsyncMin, fsyncMax)
	if len(g.nodes) > 1 {
		d += 2 * between(g.rng, hopMin, hopMax)
	}
	if g.stall > g.w.now {
		d += g.stall - g.w.now
	}
	f := &flight{by: n, data: data, done: done}
	g.flight = f
	f.ev = g.w.after(d, func() {
		g.flight = nil
		g.add(data)
		res, err := n.applyTo(len(g.log))
		if g.shaky && g.rng.IntN(3) == 0 {
			g.w.tell("%s: an entry is committed, and its proposer does not hear of it", g.name)
			res, err = nil, errLost
		}
		done(res, err)
	})
}

// add commits an entry; the other nodes hear of it.
func (g *group) add(data []byte) {
	g.log, g.times = append(g.log, data), append(g.times, g.w.now)
	g.w.noteBytes("commit "+g.name, data)
	for _, n := range g.nodes {
		if n != g.leader {
			n.after(between(g.rng, hopMin, 2*hopMax), n.catchUp)
		}
	}
}

// cutLog drops the log below what the nodes that are up have made durable.
func (g *group) cutLog() {
	low := len(g.log)
	for _, n := range g.voters() {
		n.flush()
		low = min(low, int(n.m.Applied()))
	}
	if low > g.first && g.majority() {
		g.first = low
		g.w.tell("%s: the log is cut below entry %d", g.name, low)
	}
}

// source is a node that a state can be taken from.
func (g *group) source(not *node) *node {
	for _, n := range append([]*node{g.leader}, g.nodes...) {
		if n != nil && n != not && n.up && !n.isolated && int(n.m.Applied()) >= g.first {
			return n
		}
	}
	return nil
}

// lead returns the node that leads and knows it, or nil.
func (g *group) lead() *node {
	if l := g.leader; l != nil && l.leading {
		return l
	}
	return nil
}
