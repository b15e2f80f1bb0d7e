package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire/peerpb"
)

// ledger is what the checkers remember of a run.
type ledger struct {
	dots      map[dotKey]uint64 // what every number was given to
	ops       map[dotKey]*crdt.Op
	fenced    map[crdt.Origin]bool   // incarnations that ended
	issuers   map[crdt.Origin]*group // whose incarnations they are
	firm      map[firmKey]uint64     // by region: cursors that others were told of
	acked     map[string]*ack        // by oid
	forgotten map[string]bool        // oids that an expiry has named
	lost      bool                   // a disk took with it what nobody else had
	digest    map[digestKey]digestOf // by partition and cursors
}

type dotKey struct {
	origin crdt.OriginID
	p      uint8
	f      uint64
}

type firmKey struct {
	g      *group
	origin crdt.Origin
	p      uint8
}

type digestKey struct {
	p       uint8
	cursors string
}

type digestOf struct {
	sum uint64
	who string
}

// ack is a put's op that a client was told is stored.
type ack struct {
	session string
	kind    string
	by      *device
	region  string
	safe    bool
	excused bool // a disk took it, and who put it is told so
	losses  int  // regions whose disks have taken it
	late    bool // it is on a message that was removed, and was not numbered
	alone   bool // it was called safe by a region that had no other one to count on
}

func newLedger() *ledger {
	return &ledger{
		dots: map[dotKey]uint64{}, ops: map[dotKey]*crdt.Op{}, fenced: map[crdt.Origin]bool{}, issuers: map[crdt.Origin]*group{}, firm: map[firmKey]uint64{}, acked: map[string]*ack{}, forgotten: map[string]bool{},
		digest: map[digestKey]digestOf{},
	}
}

// checkEvents sees everything that a node applies.
func (w *world) checkEvents(n *node, events []wireEvent) {
	n.g.noteIncarnation(n)
	n.g.noteAlone(n)
	index := int(n.m.Applied()) + 1
	first := index > n.g.checked
	n.g.checked = max(n.g.checked, index)
	w.counts.Commits++
	for i := range events {
		w.checkJumps(n, events[i].Jumps)
		w.checkEnds(n, events[i].Closed)
		for j := range events[i].Changes {
			ch := &events[i].Changes[j]
			w.checkNumber(n, ch)
			if first {
				w.checkIssue(n, index, ch)
			}
		}
	}
	// Sessions are looked at as they are after the entry, which may have put some in as well.
	for i := range events {
		if events[i].Merged && first {
			w.checkMerged(n, index, events[i].Session)
		}
	}
}

// checkNumber: numbers come without gaps, and each is one op for ever.
func (w *world) checkNumber(n *node, ch *wireChange) {
	d := ch.Dot
	f := feeds.Feed{Origin: d.Origin, Partition: d.Partition}
	if last := n.seen[f]; d.F != last+1 {
		w.violate("4 feeds have no gaps", "%s applies %s %d after %d", n, f, d.F, last)
	}
	n.seen[f] = d.F
	op := *ch.Op
	op.Trace = nil
	sum := xxhash.Sum64(op.Encode())
	k := dotKey{d.ID, d.Partition, d.F}
	if old, ok := w.dots[k]; ok && old != sum {
		w.violate("3 one number, one op", "%s applies another op than others under %s %d: %s %s", n, f, d.F, ch.Op.Kind, ch.Op.OID)
	}
	if fs := n.m.Finals(d.Partition); !fs.Admits(d.ID, d.F) {
		w.violate(closed, "%s applies %s %d, and the origin was closed at %d", n, f, d.F, fs[d.ID])
	}
	w.dots[k], w.ops[k] = sum, &op
	w.note("apply "+n.name, uint64(d.ID), d.F)
	w.tell("%s applies %s %d: %s %s", n, f, d.F, ch.Op.Kind, ch.Op.OID)
}

// remember takes the cursors that a process begins with.
func (n *node) remember() {
	n.seen = map[feeds.Feed]uint64{}
	for p := range uint8(crdt.Partitions) {
		for _, o := range n.m.Origins() {
			if f := n.m.Cursors(p)[o.ID()]; f > 0 {
				n.seen[feeds.Feed{Origin: o, Partition: p}] = f
			}
		}
	}
}

// checkIssue sees every op once, when the first node of a region applies it.
func (w *world) checkIssue(n *node, index int, ch *wireChange) {
	g, op := n.g, ch.Op
	own := ch.Dot.Origin.Region() == g.name && ch.Dot.Origin == n.m.Self()
	if w.fenced[ch.Dot.Origin] && own {
		w.violate("10 fenced", "%s issues under %s, which has ended", n, ch.Dot.Origin)
	}
	if own {
		w.lost = w.lost || g.out // who gave the region up does not wait for what it still numbers
		switch op.Kind {
		case crdt.KindForget:
			w.counts.Forgets++
		case crdt.KindTrim:
			w.counts.Trims++
		case crdt.KindPurge:
			w.checkPurge(n, op)
		case crdt.KindExpire:
			w.checkExpiry(n, op)
		case crdt.KindBegin, crdt.KindChunk, crdt.KindDone:
			w.checkAttempt(n, ch)
		case crdt.KindEdit, crdt.KindDel, crdt.KindReact, crdt.KindRun:
			w.checkOnRemoved(n, ch)
		}
		if op.Stamp <= g.issued {
			w.violate("8 stamps grow", "%s gives %s the stamp %d after %d", n, op.OID, op.Stamp, g.issued)
		}
		g.issued = op.Stamp
		if w.forgotten[op.OID] {
			w.violate(removals, "%s takes %s in again, which was forgotten: no client puts it so late", n, op.OID)
		}
		if at, ok := g.oids[op.OID]; ok && op.OID != "" {
			w.violate("2 one oid", "%s takes %s in again at entry %d, and has had it since %d", n, op.OID, index, at)
		}
	}
	if _, ok := g.oids[op.OID]; !ok && op.OID != "" {
		g.oids[op.OID] = index
	}
}

// checkAttempt: a region adds to its own attempts and to no other's, and each that it begins is greater than what stood.
func (w *world) checkAttempt(n *node, ch *wireChange) {
	op := ch.Op
	if op.Attempt.Region != n.g.name {
		w.violate("11 attempts", "%s reports on attempt %s of %s, which is another region's", n, op.Attempt, op.Run)
	}
	if op.Kind == crdt.KindBegin && len(ch.Items) == 0 {
		w.violate("11 attempts", "%s begins attempt %s of %s, and a greater one stands", n, op.Attempt, op.Run)
	}
	if op.Kind == crdt.KindBegin && op.Nonce == "" && op.Attempt.Epoch > 1 {
		w.counts.Taken++
		w.tell("%s has taken over %s as %s", n, op.Run, op.Attempt)
	}
}

// checkLeader: whoever leads has all that others were told that the region has.
func (w *world) checkLeader(n *node) {
	for k, f := range w.firm {
		if k.g == n.g && n.m.Cursors(k.p)[k.origin.ID()] < f {
			w.violate("4 cursors do not go back", "%s leads and has %s/%d up to %d, and its region has acknowledged %d",
				n, k.origin, k.p, n.m.Cursors(k.p)[k.origin.ID()], f)
			return
		}
	}
}

// checkClaim: what a region says it has, it has, on a majority of disks.
func (w *world) checkClaim(g *group, origin string, p uint8, f uint64) {
	if f == 0 {
		return
	}
	k := firmKey{g, crdt.Origin(origin), p}
	w.firm[k] = max(w.firm[k], f)
}

// checkAcks: nothing is acknowledged that is not applied.
func (w *world) checkAcks(n *node, want *peerpb.Want) {
	for _, a := range want.Ack {
		id := crdt.OriginID(a.Id)
		if a.Origin != "" {
			id = crdt.Origin(a.Origin).ID()
		}
		if have := n.m.Cursors(uint8(a.Partition))[id]; a.F > have {
			w.violate("4 acknowledged after commit", "%s acknowledges %08x/%d up to %d and has %d", n, uint32(id), a.Partition, a.F, have)
		}
	}
}

// checkServed sees the records that go to other regions.
func (w *world) checkServed(_ *node, have *peerpb.Have) {
	if have.Records != nil {
		w.counts.Records += len(have.Records.Records)
	}
}

// linkEvent: a fork is a number with two contents.
func (w *world) linkEvent(n *node, e *feeds.Event) {
	w.tell("link: %s: %s: %s: %v", n, e.Reason, e.Feed, e.Why)
	if e.Reason == feeds.Fork || e.Reason == feeds.NoPosition || e.Reason == feeds.BadHash {
		w.violate("3 one number, one op", "%s finds at %s: %v", n, e.Feed, e.Why)
	}
}

// checkDigests: equal cursors, equal state.
func (w *world) checkDigests() {
	for _, g := range w.groups {
		for _, n := range g.nodes {
			if !n.up {
				continue
			}
			for p := range uint8(crdt.Partitions) {
				v := n.m.Cursors(p)
				if len(v) == 0 {
					continue
				}
				sum, err := n.m.Digest(p)
				if err != nil {
					w.violate("5 equal state", "%s: %v", n, err)
				}
				k := digestKey{p, string(crdt.EncodeVector(v))}
				if old, ok := w.digest[k]; ok && old.sum != sum {
					w.violate("5 equal state", "%s and %s have applied the same of partition %d (%v), and differ: %x, %x\n%s",
						n, old.who, p, v, sum, old.sum, w.difference(p, n.String(), old.who))
				}
				w.digest[k] = digestOf{sum, n.String()}
			}
		}
	}
}

// forget takes away the end of a region's log: a disk is lost, or went back. What nobody else has is gone.
func (w *world) forget(g *group, keep int) {
	head := g.furthest()
	if head != nil {
		for p := range uint8(crdt.Partitions) {
			for id, f := range head.Cursors(p) {
				if !w.elsewhere(g, id, p, f) {
					w.lost = true
				}
			}
		}
	}
	w.tell("%s loses %d of %d entries (lost for good: %t)", g.name, len(g.log)-keep, len(g.log), w.lost)
	g.forgot = true
	g.log, g.times, g.checked, g.issued = g.log[:keep:keep], g.times[:keep:keep], keep, 0
	g.first = min(g.first, keep)
	g.forgets++
	for oid, at := range g.oids {
		if at > keep {
			delete(g.oids, oid)
			if a := w.acked[oid]; a != nil {
				a.losses++
			}
		}
	}
	for k := range w.firm {
		if k.g == g {
			delete(w.firm, k)
		}
	}
	for _, n := range g.nodes {
		if !n.up {
			n.m = nil // what it had in memory is gone with the rest
		}
	}
	w.excuse()
}

// furthest is the machine of a region that has applied most.
func (g *group) furthest() (m *machine.Machine) {
	for _, n := range g.nodes {
		if n.m != nil && (m == nil || n.m.Applied() > m.Applied()) {
			m = n.m
		}
	}
	return m
}

func (w *world) elsewhere(g *group, id crdt.OriginID, p uint8, f uint64) bool {
	for _, o := range w.groups {
		if m := o.furthest(); o != g && m != nil && m.Cursors(p)[id] >= f {
			return true
		}
	}
	return false
}

// excuse notes which acknowledged ops nobody has any more: no region, and no client that would put them again.
func (w *world) excuse() {
	for _, oid := range sortedKeys(w.acked) {
		a := w.acked[oid]
		if a.excused || a.late || a.by.keeps(oid) || w.forgotten[oid] {
			continue
		}
		held := w.holds(oid)
		a.excused = !held
		// A region that has no other one to count on, since all others were given up, calls safe what it has itself: as with one region.
		if a.safe && !held && a.losses < 2 && !(a.alone && a.losses > 0) {
			w.violate("1 safe is in two regions", "%s of %s was called safe, and %d region has lost it", oid, a.session, a.losses)
		}
	}
}

// holds reports whether some region has an op.
func (w *world) holds(oid string) bool {
	return slices.ContainsFunc(w.groups, func(g *group) bool { return g.oids[oid] > 0 })
}

// unsettled says what is not level yet, "" if everything is.
func (w *world) unsettled() string {
	for _, g := range w.groups {
		lead := g.lead()
		if lead == nil || lead.m.Self() == "" {
			return g.name + " has no leader"
		}
		for _, n := range g.nodes {
			if int(n.m.Applied()) != len(g.log) || len(n.queue) > 0 || n.busy {
				return fmt.Sprintf("%s has applied %d of %d entries, and %d proposals wait", n, n.m.Applied(), len(g.log), len(n.queue))
			}
		}
		for p := range uint8(crdt.Partitions) {
			if !g.has(p) {
				continue
			}
			first := w.regions[0].of(p)
			for id, f := range first.lead().cursorsOf(p) {
				if have := lead.Cursors(p)[id]; have != f {
					return fmt.Sprintf("%s has partition %d of origin %08x up to %d, %s up to %d", g.name, p, uint32(id), have, first.name, f)
				}
			}
			if len(lead.Cursors(p)) > len(first.lead().cursorsOf(p)) {
				return fmt.Sprintf("%s has more origins of partition %d than %s", g.name, p, first.name)
			}
		}
		if c, err := lead.m.Merge(1); c != nil || err != nil { // all cursors may be level, and what is merged be of a region that was emptied since
			return fmt.Sprintf("%s has a state to merge: %v", g.name, err)
		}
		if why := w.openOrigins(lead); why != "" {
			return why
		}
		if open, _, _ := lead.m.Open(); len(open) > 0 {
			return fmt.Sprintf("%s has %d answers open, the first is %s of %s", g.name, len(open), open[0].Run, open[0].Session)
		}
	}
	for _, d := range w.devices {
		if why := d.unsettled(); why != "" {
			return d.name + ": " + why
		}
	}
	return ""
}

// cursorsOf is nil-safe: a region may have lost its leader.
func (n *node) cursorsOf(p uint8) crdt.Vector {
	if n == nil {
		return nil
	}
	return n.Cursors(p)
}

// checkEnd compares everything once all is level.
func (w *world) checkEnd() {
	all := map[string][]record{}
	for _, g := range w.regions[0].groups {
		if err := allRecords(g.lead(), all); err != nil {
			w.violate("4 feeds have no gaps", "%s: %v", g.lead(), err)
			return
		}
	}
	w.checkRemoved(all)
	w.checkDigests()
	for _, g := range w.groups {
		for _, n := range g.nodes {
			for p := range uint8(crdt.Partitions) {
				kept, err := n.m.Digest(p)
				sum, err2 := n.m.Recompute(p)
				if err != nil || err2 != nil || kept != sum {
					w.violate("5 equal state", "%s: the digest of partition %d is %x, and what it holds sums to %x", n, p, kept, sum)
				}
			}
		}
	}
	w.checkAcked()
	w.checkOracle(all)
	for _, d := range w.devices {
		d.checkEnd()
	}
}

// checkAcked: what a client was told is stored is in every region.
func (w *world) checkAcked() {
	for _, oid := range sortedKeys(w.acked) {
		a := w.acked[oid]
		if a.excused || a.late || w.forgotten[oid] || w.lost && a.kind == "stop" && !a.by.keeps(oid) { // what it was to stop may be lost, and its client then knows
			continue
		}
		for _, g := range w.holding(a.session) {
			found := false
			_ = g.lead().View(a.session, func(st crdt.Store) { _, found = crdt.Lookup(st, oid) })
			if !found {
				w.violate("1 acknowledged, not lost", "%s of %s was acknowledged in %s (safe: %t), and %s does not have it",
					oid, a.session, a.region, a.safe, g.name)
			}
		}
	}
}

func appliedIn(m *machine.Mem) uint64 {
	v, _ := machine.AppliedIn(m) // memory does not fail
	return v
}

// difference shows where two nodes' copies of a partition differ.
func (w *world) difference(p uint8, a, b string) string {
	var lines []string
	states := map[string]map[string]string{}
	for _, g := range w.groups {
		for _, n := range g.nodes {
			if n.String() == a || n.String() == b {
				states[n.String()] = n.m.Elements(p)
			}
		}
	}
	for _, k := range sortedKeys(states[a]) {
		if v := states[a][k]; states[b][k] != v {
			lines = append(lines, fmt.Sprintf("%q: %s has %q, %s has %q", k, a, v, b, states[b][k]))
		}
	}
	for _, k := range sortedKeys(states[b]) {
		if _, ok := states[a][k]; !ok {
			lines = append(lines, fmt.Sprintf("%q: %s has nothing, %s has %q", k, a, b, states[b][k]))
		}
	}
	return strings.Join(lines, "\n")
}
