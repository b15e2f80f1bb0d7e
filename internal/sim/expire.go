package sim

import (
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/replication/feeds"
)

// expireEvery is how often a leader looks for what was removed long ago, as the product has it.
const expireEvery = time.Second

// expire has what was removed long ago forgotten, as the product does, while there are faults.
func (n *node) expire(g *machine.Gone) {
	if n.gone != g || n.w.plan.Removed == 0 || n.w.ended {
		return
	}
	all := append([]string{n.g.name}, n.others()...)
	mark, expire, err := g.Look(n.m, n.g.mask, n.now(), n.w.plan.Removed, func(session string) bool {
		return feeds.Home(session, all) == n.g.name
	}, n.stable)
	if err != nil {
		n.w.violate("state", "%s: %v", n, err)
	}
	for _, c := range []*machine.Command{mark, expire} {
		if c != nil {
			n.do(c, func(machine.Result) {})
		}
	}
	n.after(expireEvery, func() { n.expire(g) })
}

// stable is what all regions have of a partition, as the product works it out.
func (n *node) stable(p uint8) (crdt.Vector, bool) {
	return n.matrix.Stable(n, n.others(), p, machine.ExpireLevel, func(region string) bool {
		s := n.links[n.w.region(region).of(p)]
		return s != nil && s.known && n.w.now-s.heard < 2*silentAfter
	})
}

// clocksApart is by how much the clocks of regions may differ in a run in which ids are forgotten.
const clocksApart = 3 * time.Second

// checkExpiry: what is forgotten was removed, or spent, for long, and nobody has taken it in again without knowing that.
func (w *world) checkExpiry(n *node, op *crdt.Op) {
	w.counts.Expiries++
	w.counts.Expired += len(op.Gone)
	var recs []record
	for k, o := range w.ops {
		if o.Session == op.Session {
			recs = append(recs, record{op: o, by: k.origin, f: k.f})
		}
	}
	since := w.useless(recs)
	for _, oid := range op.Gone {
		w.forgotten[oid] = true
		if op.TS-since[oid] < (w.plan.Removed - clocksApart).Milliseconds() {
			w.violate(removals, "%s forgets %s of %s, which is known for %d ms only", n, oid, op.Session, op.TS-since[oid])
		}
	}
	for _, r := range recs {
		if slices.Contains(op.Gone, r.op.OID) && r.f > op.Seen[r.by] && w.living(n, crdt.PartitionOf(op.Session), r) {
			w.violate(removals, "%s forgets %s of %s, and has not seen all copies of it", n, r.op.OID, op.Session)
		}
	}
}

// living reports whether a number may still come to a node's region: some region has it that counts there.
func (w *world) living(n *node, p uint8, r record) bool {
	if !n.m.Finals(p).Admits(r.by, r.f) {
		return false
	}
	for _, g := range w.groups {
		m := g.furthest()
		if m == nil || n.Evictions(p).Out(g.name) {
			continue
		}
		if m.Cursors(p)[r.by] >= r.f {
			return true
		}
	}
	return false
}

// useless is from when on each op may be forgotten, but for the time that has to pass: entries when they are removed, others when they were put,
// since they may show nothing from then on. It is the first copy that counts.
func (w *world) useless(recs []record) map[string]int64 {
	at := map[string]int64{}
	for _, r := range recs {
		if old, ok := at[r.op.OID]; r.op.Kind != crdt.KindMsg && r.op.Kind != crdt.KindRun && (!ok || r.op.TS < old) {
			at[r.op.OID] = r.op.TS
		}
	}
	for _, by := range recs {
		if !by.op.Kind.Removes() {
			continue
		}
		for oid := range goneOf([]record{by}, recs) {
			if old, ok := at[oid]; !ok || by.op.TS < old {
				at[oid] = by.op.TS
			}
		}
	}
	return at
}

// left leaves out, of a session's ops, the copies that an expiry has made void, and what was on them.
func left(recs []record) (all []record) {
	for _, r := range recs {
		void := slices.ContainsFunc(recs, func(by record) bool {
			return by.op.Kind == crdt.KindExpire && r.f <= by.op.Seen[r.by] &&
				(slices.Contains(by.op.Gone, r.op.OID) || r.op.Of != "" && slices.Contains(by.op.Gone, r.op.Of))
		})
		if !void {
			all = append(all, r)
		}
	}
	return all
}

// forgot reports whether a state has an op no more that another one has, and that it had seen.
func forgot(st, other crdt.Store, oid string) bool {
	id, known := crdt.Lookup(other, oid)
	_, ours := crdt.Lookup(st, oid)
	return known && !ours && crdt.ReadHeader(st).Seen[id.By] >= id.F
}

// checkOnRemoved: what is put on a message is not numbered once its region knows that the message was removed, since it might come to who has
// forgotten that.
func (w *world) checkOnRemoved(n *node, ch *wireChange) {
	op, late := ch.Op, false
	if op.Of == "" {
		return
	}
	_ = n.View(op.Session, func(st crdt.Store) { late = buried(st, op.Of) })
	if !late { // nearly always
		return
	}
	applied := map[crdt.OriginID]uint64{} // until this op, which the entry may go on after
	for f, last := range n.seen {
		if f.Partition == ch.Dot.Partition {
			applied[f.Origin.ID()] = last
		}
	}
	var before []record
	for k, o := range w.ops {
		if o.Session == op.Session && k.f <= applied[k.origin] {
			before = append(before, record{op: o, by: k.origin, f: k.f})
		}
	}
	if goneOf(before, before)[op.Of] {
		w.violate(removals, "%s numbers %s, which is on %s, and that was removed", n, op.OID, op.Of)
	}
}

// checkLate notes that an op is on a message that was removed: it is not numbered.
func (a *ack) checkLate(n *node, oid, of string) {
	if of == "" {
		return
	}
	if n.m == nil && n.g.lead() == nil {
		return // its disk is lost, and nobody else can tell
	}
	if n.m == nil {
		n = n.g.lead()
	}
	_ = n.View(a.session, func(st crdt.Store) {
		_, known := crdt.Lookup(st, oid)
		a.late = a.late || !known && buried(st, of)
	})
}
