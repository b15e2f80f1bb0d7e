package sim

import (
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire/peerpb"
)

// Times of feeds' floors and of transfers, as the product has them, or shorter.
const (
	trimMin, trimMax = time.Second, 10 * time.Second
	mergeEvery       = 250 * time.Millisecond
	mergeSlowly      = time.Second // between one session and the next, at most: much happens in between
	wholePart        = 2 << 10     // bytes of a part that go in one message, so that many go in pieces
)

// Part implements feeds.States. Parts are small, so that much happens between them.
func (n *node) Part(w *peerpb.Pull, _ int) (*peerpb.Part, error) { return n.m.Part(w, 1) }

// Pull implements feeds.States.
func (n *node) Level() uint32                                         { return machine.ExpireLevel }
func (n *node) Pull(p uint8, from string) (*peerpb.Pull, bool, error) { return n.m.Pull(p, from) }

// shorten drops what of the feeds is not to be kept, now and then while the node leads.
func (n *node) shorten() {
	if !n.leading || n.w.plan.Retain == nil {
		return
	}
	others := n.others()
	c := n.m.Floors(*n.w.plan.Retain, func(o crdt.Origin, p uint8) uint64 { return n.matrix.Acked(others, o.ID(), p, n.Evictions(p)) })
	if c != nil {
		n.flush()
		n.w.tell("%s drops the oldest records of %d feeds", n, len(c.Floors))
		n.do(c, func(machine.Result) {})
	}
	n.after(between(n.g.trims, trimMin, trimMax), n.whileLeading(n.shorten))
}

// mergeStates merges what has come of other regions' states, while the node leads.
func (n *node) mergeStates() {
	if !n.leading || n.w.plan.Retain == nil {
		return
	}
	again := n.whileLeading(n.mergeStates)
	c, err := n.m.Merge(1)
	switch {
	case err != nil:
		n.w.violate("state", "%s: %v", n, err)
	case c == nil:
		n.after(mergeEvery, again)
	default:
		n.do(c, func(r machine.Result) {
			n.w.tell("%s merges some of partition %d, as %s has it: %v", n, c.Into, c.From, r.Err)
			n.after(between(n.g.trims, 0, mergeSlowly), again)
		})
	}
}

// whileLeading is fn, unless the node's time as a leader has ended in between.
func (n *node) whileLeading(fn func()) func() {
	term := n.terms
	return func() {
		if n.terms == term {
			fn()
		}
	}
}

// checkJumps: cursors do not go back where a transfer moves them.
func (w *world) checkJumps(n *node, jumps []crdt.Dot) {
	for _, d := range jumps {
		f := feeds.Feed{Origin: d.Origin, Partition: d.Partition}
		if d.F <= n.seen[f] {
			w.violate("4 cursors do not go back", "%s has %s up to %d, and a transfer brings it to %d", n, f, n.seen[f], d.F)
		}
		n.seen[f] = d.F
		w.counts.Transfers++
		w.tell("%s has %s up to %d, by a transfer", n, f, d.F)
	}
}

// checkMerged notes what a region has taken in with another's copy of a session.
func (w *world) checkMerged(n *node, index int, session string) {
	w.tell("%s merges another region's copy of %s", n, session)
	_ = n.View(session, func(st crdt.Store) {
		for _, op := range w.ops {
			if op.Session != session || op.OID == "" || n.g.oids[op.OID] > 0 {
				continue
			}
			if _, known := crdt.Lookup(st, op.OID); known {
				n.g.oids[op.OID] = index
			}
		}
	})
}

// trimmed are the records of a feed that are not held any more, as they were when they were.
func (n *node) trimmed(o crdt.Origin, p uint8, visit func(op *crdt.Op, f uint64)) (next uint64) {
	floor := n.m.Floor(o, p).F
	for f := uint64(1); f <= floor; f++ {
		if op := n.w.ops[dotKey{o.ID(), p, f}]; op != nil {
			visit(op, f)
		}
	}
	return floor + 1
}
