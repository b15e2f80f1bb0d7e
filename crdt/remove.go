package crdt

import (
	"slices"
)

// A removal (forget, trim, purge) carries the vector that its issuer had seen. An op goes if any copy of it that is known has a dot
// within that vector, whichever copy stands: else a copy that was put again elsewhere would bring back what a user has
// deleted. Feeds are causal, so whoever applies a removal has applied all that it covers: what is removed depends on the set
// of ops alone, and nothing of the removal has to be kept for copies that come later. Of an op that goes, its identity stays,
// so that a late retry is a duplicate.
//
// What belongs to a message goes with it, covered or not, since it shows nothing without it: its answers, however often it
// was asked again, and edits and reactions. Those ops keep their identities as they are.

// Removal is what Apply tells of a removal: Runs are the answers that went.
type Removal struct{ Runs []string }

func removed(st Store, oid string) bool {
	id, ok := Lookup(st, oid)
	return ok && id.Removed
}

// remove takes out what a removal covers, and all that belongs to it.
func remove(st Store, op *Op) *Removal {
	gone := map[string]bool{}
	for _, oid := range covered(st, op) {
		if id, ok := Lookup(st, oid); ok && !gone[oid] {
			gone[oid] = true
			dropCopy(st, id, oid)
			id.bury(st, oid)
		}
	}
	if len(gone) == 0 {
		return &Removal{}
	}
	for _, of := range written(st) {
		if gone[of] {
			dropRegisters(st, of)
		}
	}
	return &Removal{Runs: sweep(st, gone)}
}

// covered lists the ops of which a copy is within what the removal's issuer had seen: all for a forget and a purge, messages
// and questions up to Seq for a trim.
func covered(st Store, op *Op) (oids []string) {
	for _, id := range op.Seen.IDs() {
		lo, hi := dotKey(id, 1), dotKey(id, op.Seen[id]+1)
		st.Scan(lo, hi, false, func(_, v []byte) bool {
			r := decodeRef(v)
			if r.op != "" && (op.Kind != KindTrim || r.seq > 0 && r.seq <= op.Seq) {
				oids = append(oids, r.op)
			}
			return true
		})
	}
	return oids
}

// bury leaves of an op what makes it known when it comes again.
func (id Identity) bury(st Store, oid string) {
	id.Removed, id.reg = true, ""
	st.Set(identityKey(oid), id.encode())
}

// buryCopy takes in one more copy of an op that is removed.
func buryCopy(st Store, op *Op, id, old Identity) {
	if id.before(old) {
		id.bury(st, op.OID)
	}
	if op.Kind == KindRead {
		raiseMark(st, op.User, readMark{by: id.By, op: op}.strip())
	}
}

// dropRegisters removes the edits and reactions of a message.
func dropRegisters(st Store, of string) {
	for _, k := range versionsOn(st, of) {
		st.Delete(k)
	}
	st.Delete(writtenKey(of))
}

// written lists the messages that have edits or reactions.
func written(st Store) (of []string) {
	scanClass(st, classWritten, func(oid string, _, _ []byte) { of = append(of, oid) })
	return of
}

// versionsOn lists the keys of the ops on a message.
func versionsOn(st Store, of string) (keys [][]byte) {
	for _, prefix := range versionPrefixes(of) {
		hi := append(slices.Clone(prefix), 0xff)
		st.Scan(prefix, hi, false, func(k, _ []byte) bool {
			keys = append(keys, slices.Clone(k))
			return true
		})
	}
	return keys
}

// sweep removes what is left of ops that are gone: their answers, read marks and dots. It returns the answers.
func sweep(st Store, gone map[string]bool) (runs []string) {
	var slots []*Slot
	scanClass(st, classSlot, func(run string, k, v []byte) {
		if len(v) == 0 {
			return
		}
		s, err := decodeSlot(run, v)
		if err != nil {
			corrupt(k, err)
		}
		if gone[s.Of] {
			slots = append(slots, s)
		}
	})
	went := map[string]bool{}
	for _, s := range slots {
		s.remove(st)
		went[s.OID] = true
		runs = append(runs, s.OID)
	}
	stripMarks(st, gone)
	var dots [][]byte
	scanClass(st, classDot, func(_ string, k, v []byte) {
		if r := decodeRef(v); r.op != "" && gone[r.op] || r.op == "" && went[r.runs[0]] {
			dots = append(dots, slices.Clone(k))
		}
	})
	for _, k := range dots {
		st.Delete(k)
	}
	return runs
}

// remove takes out an answer.
func (s *Slot) remove(st Store) {
	s.dropText(st)
	st.Delete(s.Place.key(classEntry, s.OID))
	st.Delete(s.Place.key(classOpen, s.OID))
	buryRun(st, s.OID)
}

// buryRun leaves of an answer that it was there: who asks for its end hears that it has ended.
func buryRun(st Store, run string) { st.Set(slotKey(run), nil) }

func removedRun(st Store, run string) bool {
	b := st.Get(slotKey(run))
	return b != nil && len(b) == 0
}

// stripMarks hides the read marks of ops that are gone. A mark stays the furthest all the same, since what comes later has to be
// measured by it; but what it says does not stay.
func stripMarks(st Store, gone map[string]bool) {
	strip := map[string][]byte{}
	scanClass(st, classRead, func(_ string, k, v []byte) {
		if m := decodeMark(k, v); gone[m.op.OID] && !m.removed() {
			strip[string(k)] = m.strip().encode()
		}
	})
	for k, v := range strip {
		st.Set([]byte(k), v)
	}
}

// strip leaves of a mark what others are measured by.
func (m readMark) strip() readMark {
	op := &Op{OID: m.op.OID, Seq: m.op.Seq, Stamp: m.op.Stamp, TS: m.op.Stamp.Wall()}
	return readMark{by: m.by, op: op}
}

// removed reports whether the mark is only kept to measure others by.
func (m readMark) removed() bool { return m.op.Kind == 0 }

// mergeRemovals takes out, of two states that were joined, what either had removed.
func mergeRemovals(st Store) {
	gone := map[string]bool{}
	scanClass(st, classIdentity, func(oid string, k, v []byte) {
		id, err := decodeIdentity(v)
		if err != nil {
			corrupt(k, err)
		}
		if id.Removed {
			gone[oid] = true
		}
	})
	if len(gone) == 0 {
		return
	}
	for _, of := range written(st) {
		if gone[of] {
			dropRegisters(st, of)
		}
	}
	sweep(st, gone)
}
