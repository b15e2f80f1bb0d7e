package crdt

import (
	"math"
	"slices"
)

// What was removed leaves its identity, so that it is known when it comes again; what is spent, as a value that another has replaced, does too.
// An expiry (KindExpire) takes those out that have been there for long. It names them, and what its issuer had seen of the session (Seen): a copy
// within that is void, whoever holds it. So what is left depends on the set of ops alone, if no op that may still come refers to what is
// named: its issuer has to know that all regions have what made it so, and to have all that they numbered before they had it.
//
// What an expiry names is kept until all regions have the expiry, which a later one says (Base): a state that has not seen it may still have to be
// merged. Then nothing is left.

// Mark is what is remembered of a session at some time, to know later what was gone by then.
type Mark struct {
	At    int64  // ms since 1970
	Seen  Vector // what was seen of the session
	First uint64 // the lowest seq in the log: what was seen and is below was gone
	Blank bool   // nothing was shown at all
}

// MarkOf returns the mark of a session as it is now.
func MarkOf(st Store, at int64) Mark {
	h := ReadHeader(st)
	m := Mark{At: at, Seen: h.Seen.Clone(), First: oldestSeq(st), Blank: Blank(st)}
	if m.First == 0 {
		m.First = h.MaxSeq + 1
	}
	return m
}

// Encode returns the canonical bytes of a mark.
func (m Mark) Encode() []byte {
	var e enc
	e.int(1, m.At)
	e.bytes(2, m.Seen.encode())
	e.uint(3, m.First)
	e.bool(4, m.Blank)
	return e
}

// DecodeMark is the inverse of Encode.
func DecodeMark(b []byte) (m Mark, err error) {
	d := dec{b: b}
	for d.next() {
		switch d.num {
		case 1:
			m.At = d.int()
		case 2:
			m.Seen = decodeSeen(&d)
		case 3:
			m.First = d.uint()
		case 4:
			m.Blank = d.bool()
		default:
			d.fail("unknown field")
		}
	}
	return m, d.err
}

// Expirable reports whether something of a session is to expire some day.
func Expirable(st Store) bool {
	h := ReadHeader(st)
	return len(h.Cut) > 0 && (!h.Swept.Covers(h.Cut) || len(expiries(st)) > 0)
}

// maxGone bounds what one expiry names.
const maxGone = 512

// IssueExpire completes an expiry of what was gone at a mark. Base is what all regions have: it reports false if the last removals are not
// among it. more is true if this does not name all.
func IssueExpire(st Store, op *Op, m Mark) (more, ok bool) {
	h := ReadHeader(st)
	if len(m.Seen) == 0 || !op.Base.Covers(h.Cut) || !op.Base.Covers(m.Seen) {
		return false, false
	}
	op.Seen, op.Base, op.Runs, op.Gone = h.Seen.Clone(), nil, removedRuns(st, maxGone+1), nil
	if len(op.Runs) <= maxGone { // runs first: whoever forgets a question has forgotten its answers
		op.Gone = spentAt(st, m, maxGone+1-len(op.Runs))
	}
	if more = len(op.Runs)+len(op.Gone) > maxGone; !more {
		op.Base = m.Seen.Clone()
	}
	return more, true
}

func removedRuns(st Store, limit int) (runs []string) {
	lo, hi := classRange(classSlot)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		if len(v) == 0 {
			runs = append(runs, string(k[1:]))
		}
		return len(runs) < limit
	})
	return runs
}

// spentAt lists ops that were gone at a mark, and those that had been put by then and show nothing any more.
func spentAt(st Store, m Mark, limit int) (oids []string) {
	marks, tops := map[string]bool{}, map[string]string{}
	scanClass(st, classRead, func(_ string, k, v []byte) { marks[decodeMark(k, v).op.OID] = true })
	lo, hi := classRange(classIdentity)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		id, oid := identityAt(k, v), string(k[1:])
		if id.F <= m.Seen[id.By] && !marks[oid] && id.spent(st, oid, m, tops) {
			oids = append(oids, oid)
		}
		return len(oids) < limit
	})
	return oids
}

// spent reports whether an op that was seen at a mark is of no use but to be known. tops are the deciding ops of registers, as of then.
func (id Identity) spent(st Store, oid string, m Mark, tops map[string]string) bool {
	switch {
	case id.Removed:
		return m.Blank || id.Seq > 0 && id.Seq < m.First
	case id.Kind == KindStop || id.Kind == KindForget || id.Kind == KindRead:
		return true
	case id.reg == "":
		return false
	}
	if of := id.of(); of != "" && removed(st, of) {
		return true
	}
	top, ok := tops[id.reg]
	if !ok {
		top = topAt(st, id.reg, m)
		tops[id.reg] = top
	}
	return top != "" && top != oid
}

// topAt is the greatest version of a register that was seen at a mark: those below it will not be shown again, since no copy can lower it any more.
func topAt(st Store, reg string, m Mark) (oid string) {
	lo, hi := registerRange(reg)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		op := mapOp(k, v, len(lo))
		if id, _ := Lookup(st, op.OID); id.F <= m.Seen[id.By] {
			oid = op.OID
		}
		return oid == ""
	})
	return oid
}

// expire takes out what an expiry names, and keeps the expiry until all have it.
func expire(st Store, op *Op, dot Dot) {
	op.void(st)
	if len(op.Gone)+len(op.Runs) > 0 {
		st.Set(expiryKey(dot.ID, dot.F), stored(op))
	}
	dropExpiries(st, op.Base)
}

// void takes out what an expiry names, in a state that may not have the removals either.
func (op *Op) void(st Store) {
	gone, others, alive := map[string]bool{}, map[string]bool{}, false
	for _, oid := range op.Gone {
		id, ok := Lookup(st, oid)
		if !ok {
			continue
		}
		if id.F > op.Seen[id.By] {
			others[oid] = true
			continue
		}
		gone[oid] = true
		if !id.Removed {
			alive = true
			dropCopy(st, id, oid)
		}
	}
	runs := op.Runs
	if alive {
		for _, of := range written(st) {
			if gone[of] {
				dropRegisters(st, of)
			}
		}
		runs = append(slices.Clone(runs), sweep(st, gone)...)
	}
	for oid := range gone {
		st.Delete(identityKey(oid))
	}
	dropRuns(st, runs)
	if len(others) > 0 {
		dropCopies(st, others, op.Seen)
	}
}

// dropCopies forgets the copies of some ops that are within what was seen, and do not stand.
func dropCopies(st Store, oids map[string]bool, seen Vector) {
	var dots [][]byte
	for _, id := range seen.IDs() {
		lo, hi := dotKey(id, 1), dotKey(id, seen[id]+1)
		st.Scan(lo, hi, false, func(k, v []byte) bool {
			if oids[decodeRef(v).op] {
				dots = append(dots, slices.Clone(k))
			}
			return true
		})
	}
	for _, k := range dots {
		st.Delete(k)
	}
}

// dropRuns forgets that some answers were there, if they were removed.
func dropRuns(st Store, runs []string) {
	for _, run := range runs {
		if removedRun(st, run) {
			st.Delete(slotKey(run))
		}
	}
}

// expiryAt is an expiry that is kept, and its dot.
type expiryAt struct {
	by  OriginID
	f   uint64
	op  *Op
	key []byte
}

// expiries lists those that are kept.
func expiries(st Store) (all []expiryAt) {
	scanClass(st, classExpiry, func(_ string, k, v []byte) {
		all = append(all, expiryAt{OriginID(be32dec(k[1:])), be64dec(k[5:]), decodeStored(k, v), slices.Clone(k)})
	})
	return all
}

// dropExpiries forgets the expiries that all regions have.
func dropExpiries(st Store, base Vector) {
	for _, e := range expiries(st) {
		if e.f <= base[e.by] {
			st.Delete(e.key)
		}
	}
}

// mergeExpiries takes out, of two states that are to be joined, what the other one knows to be void. It returns src as that leaves it, while src
// itself is not changed, and the answers of which the other one has forgotten even that they were there: the join may remove them once more.
func mergeExpiries(dst, src Store) (left Store, runs []string) {
	ours, theirs := unseenBy(dst, src), unseenBy(src, dst)
	runs = append(goneRuns(dst, src, ours), goneRuns(src, dst, theirs)...)
	for _, op := range theirs {
		op.void(dst)
	}
	if len(ours) == 0 {
		return src, runs
	}
	m := NewMem()
	everything(src, m.Set)
	for _, op := range ours {
		op.void(m)
	}
	return m, runs
}

// unseenBy lists the expiries that a state has and another lacks. Of those that it has not kept, since all regions had them, it says what the other
// one still has: it is of a region that was given up, and has come back.
func unseenBy(st, other Store) (ops []*Op) {
	h, seen := ReadHeader(st), ReadHeader(other)
	for _, e := range expiries(st) {
		if e.f > seen.Seen[e.by] {
			ops = append(ops, e.op)
		}
	}
	if !seen.Swept.Covers(h.Swept) {
		ops = append(ops, leftover(st, other, h.Seen))
	}
	return ops
}

// leftover names what a state has forgotten and another one has not: ops of which it has seen the copy that stands there, and has none, or has one that would not
// stand beside it; and ends of answers, unless a question was removed there that it has never seen.
func leftover(st, other Store, seen Vector) *Op {
	op, fresh := &Op{Kind: KindExpire, Seen: seen.Clone()}, false
	scanClass(other, classIdentity, func(oid string, k, v []byte) {
		id := identityAt(k, v)
		if id.F > seen[id.By] {
			fresh = fresh || id.Kind == KindMsg && id.Removed || id.Kind == KindRun
		} else if ours, known := Lookup(st, oid); !known || id.before(ours) {
			op.Gone = append(op.Gone, oid)
		}
	})
	if !fresh {
		op.Runs = removedRuns(other, math.MaxInt)
	}
	return op
}

// goneRuns lists the answers that a state has forgotten, by expiries that another has not seen: it has none where the other has one, and had seen the
// question, or an expiry names it.
func goneRuns(st, other Store, unseen []*Op) (runs []string) {
	if len(unseen) == 0 {
		return nil
	}
	named, seen := map[string]bool{}, ReadHeader(st).Seen
	for _, op := range unseen {
		for _, run := range op.Runs {
			named[run] = true
		}
	}
	scanClass(other, classSlot, func(run string, _, _ []byte) {
		s, live := ReadSlot(other, run)
		if st.Get(slotKey(run)) == nil && (live && s.F <= seen[s.By] || !live && named[run]) {
			runs = append(runs, run)
		}
	})
	return runs
}

// joinExpiries keeps the expiries of both, but for those that all regions have, and forgets that some answers were there.
func joinExpiries(dst, src Store, swept Vector, runs []string) {
	dropRuns(dst, runs)
	for _, e := range expiries(src) {
		dst.Set(e.key, src.Get(e.key))
	}
	dropExpiries(dst, swept)
}

// Late reports that an op is on a message that was removed, and whose removal is known: it can show nothing, and is not to be numbered, since it might
// come to who has forgotten the message. The identity is what stands for it.
func Late(st Store, op *Op) (id Identity, late bool) {
	if op.Of == "" || !(op.Kind == KindRun || registerOf(op) != "") {
		return id, false
	}
	if _, known := Lookup(st, op.OID); known {
		return id, false
	}
	id, ok := Lookup(st, op.Of)
	if !ok || !id.Removed {
		return Identity{}, false
	}
	id.Kind, id.Seq = op.Kind, 0
	return id, true
}
