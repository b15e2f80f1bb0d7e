package sim

import (
	"bytes"
	"time"

	"github.com/roamsync/roam/crdt"
)

// goneOf works out from a session's ops which of them were removed: those of which a copy is within what a forget, a trim or a purge had
// seen; a trim takes messages and questions only, up to its place.
func goneOf(removals, recs []record) map[string]bool {
	gone := map[string]bool{}
	for _, by := range removals {
		if !by.op.Kind.Removes() {
			continue
		}
		for _, r := range recs {
			entry := r.op.Kind == crdt.KindMsg || r.op.Kind == crdt.KindRun
			if r.op.OID != "" && r.f <= by.op.Seen[r.by] && (by.op.Kind != crdt.KindTrim || entry && r.op.Seq <= by.op.Seq) {
				gone[r.op.OID] = true
			}
		}
	}
	return gone
}

// everGone is what was removed of a session by ops that were ever applied, if disks have taken some that nobody else has: a client that saw
// a removal that is lost does not show what that took, and is behind for good. Else it is nil.
func (w *world) everGone(session string) map[string]bool {
	if !w.lost {
		return nil
	}
	var recs []record
	for k, op := range w.ops {
		if op.Session == session {
			recs = append(recs, record{op: op, by: k.origin, f: k.f})
		}
	}
	return goneOf(recs, left(recs))
}

const removals = "9 removals"

// checkRemoved: what was removed is shown nowhere, and nothing else was removed.
func (w *world) checkRemoved(all map[string][]record) {
	for _, session := range sortedKeys(all) {
		gone := goneOf(all[session], left(all[session]))
		for _, g := range w.holding(session) {
			for _, n := range g.nodes {
				_ = n.View(session, func(st crdt.Store) { w.checkTombstones(n.String(), session, st, all[session], gone) })
			}
		}
		for _, d := range w.devices {
			d.checkRemoved(session, gone)
		}
	}
}

func (w *world) checkTombstones(who, session string, st crdt.Store, recs []record, gone map[string]bool) {
	for _, r := range left(recs) {
		if r.op.OID == "" {
			continue
		}
		switch id, known := crdt.Lookup(st, r.op.OID); {
		case !known:
			w.violate(removals, "%s does not know %s of %s any more", who, r.op.OID, session)
		case id.Removed && !gone[r.op.OID]:
			w.violate(removals, "%s has removed %s of %s, and no removal had seen it", who, r.op.OID, session)
		case !id.Removed && gone[r.op.OID]:
			w.violate(removals, "%s still has %s of %s, which was removed", who, r.op.OID, session)
		}
	}
	log, _ := crdt.Page(st, 0, 1<<30)
	for _, e := range log {
		if gone[e.OID] || e.Run != nil && gone[e.Run.Of] {
			w.violate(removals, "%s shows %s of %s, which was removed", who, e.OID, session)
		}
	}
}

func (d *device) checkRemoved(session string, gone map[string]bool) {
	held := d.view(session).Entries
	for _, oid := range sortedKeys(held) {
		if e := held[oid]; e != nil && (gone[oid] || gone[e.Of]) {
			d.w.violate(removals, "%s was never told that %s of %s was removed", d, oid, session)
		}
	}
	st, _ := d.eng.State(session)
	for _, e := range st.Log {
		if gone[e.OID] || gone[e.Of] {
			d.w.violate(removals, "the SDK of %s shows %s of %s, which was removed", d, e.OID, session)
		}
	}
}

// transfers joins the states of two regions now and then, as a transfer of state would: neither side may bring back what the other
// has removed, or take what the other holds, and it does not matter which is joined into which.
func (w *world) transfers() {
	r := dice(w.seed, "transfers")
	var next func()
	next = func() {
		a, b := w.groups[r.IntN(len(w.groups))].lead(), w.groups[r.IntN(len(w.groups))].lead()
		if a != nil && b != nil && a != b {
			for _, session := range w.sessions() {
				if a.g.mask&b.g.mask&(1<<crdt.PartitionOf(session)) != 0 {
					w.checkTransfer(a, b, session)
				}
			}
		}
		if !w.ended {
			w.after(between(r, time.Second, 10*time.Second), next)
		}
	}
	w.after(between(r, time.Second, 10*time.Second), next)
}

// sessions are those that the plan has.
func (w *world) sessions() []string {
	all := map[string]bool{}
	for _, d := range w.plan.Devices {
		for _, s := range d.Sessions {
			all[s] = true
		}
	}
	return sortedKeys(all)
}

func (n *node) copyOf(session string) *crdt.Mem {
	m := crdt.NewMem()
	_ = n.View(session, func(st crdt.Store) { crdt.Merge(m, st) })
	return m
}

func (w *world) checkTransfer(a, b *node, session string) {
	sa, sb := a.copyOf(session), b.copyOf(session)
	joined, other := sa.Clone(), sb.Clone()
	crdt.Merge(joined, sb)
	crdt.Merge(other, sa)
	if !bytes.Equal(crdt.Encode(joined), crdt.Encode(other)) {
		w.violate("5 equal state", "%s of %s joined into that of %s is not the same the other way round", session, a, b)
	}
	for _, side := range []*crdt.Mem{sa, sb} {
		log, _ := crdt.Page(side, 0, 1<<30)
		for _, e := range log {
			of := e.OID
			if e.Run != nil {
				of = e.Run.Of
			}
			w.checkJoined(a, b, session, joined, e.OID, buried(sa, of) || buried(sb, of) || forgot(sa, sb, of) || forgot(sb, sa, of))
		}
	}
}

func buried(st crdt.Store, oid string) bool {
	id, ok := crdt.Lookup(st, oid)
	return ok && id.Removed
}

func (w *world) checkJoined(a, b *node, session string, joined crdt.Store, oid string, gone bool) {
	switch _, shown := crdt.View(joined, oid); {
	case shown && gone:
		w.violate(removals, "joined, %s of %s and %s shows %s, which one of them had removed", session, a, b, oid)
	case !shown && !gone:
		w.violate(removals, "joined, %s of %s and %s lacks %s, which neither had removed", session, a, b, oid)
	}
}
