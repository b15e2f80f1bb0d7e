package crdt

// IssueTrim completes a trim of a session to about keep entries. It reports false if there is nothing to trim: the log is not
// longer than that by more than a quarter, or what is old belongs to an answer that is not closed.
func IssueTrim(st Store, op *Op, keep int) bool {
	first, ok := firstKept(st, keep)
	if !ok || first <= oldestSeq(st) {
		return false
	}
	op.Seq, op.Seen = first-1, ReadHeader(st).Seen.Clone()
	return true
}

// firstKept is the seq from which on a session is kept.
func firstKept(st Store, keep int) (first uint64, ok bool) {
	n := 0
	lo, hi := classRange(classEntry)
	st.Scan(lo, hi, true, func(k, _ []byte) bool {
		if n++; n <= keep {
			first = be64dec(k[1:9])
		}
		return n <= keep+keep/4
	})
	if keep <= 0 || n <= keep+keep/4 {
		return 0, false
	}
	for _, run := range OpenRuns(st) {
		s, _ := ReadSlot(st, run)
		q, _ := Lookup(st, s.Of)
		first = min(first, s.Seq, q.Seq)
	}
	return unparted(st, first), true
}

// unparted moves a cut that falls between a question and the answers that were created with it down to the question.
func unparted(st Store, first uint64) uint64 {
	lowest := first
	for _, oid := range placed(st, first) {
		if s, ok := ReadSlot(st, oid); ok {
			if q, _ := Lookup(st, s.Of); q.By == s.By && q.F == s.F {
				lowest = min(lowest, q.Seq)
			}
		}
	}
	return lowest
}

// placed lists what stands at a seq.
func placed(st Store, seq uint64) (oids []string) {
	st.Scan(key(classEntry, be64(seq)), key(classEntry, be64(seq+1)), false, func(k, _ []byte) bool {
		_, oid := placeOf(k)
		oids = append(oids, oid)
		return true
	})
	return oids
}

func oldestSeq(st Store) (seq uint64) {
	lo, hi := classRange(classEntry)
	st.Scan(lo, hi, false, func(k, _ []byte) bool {
		seq = be64dec(k[1:9])
		return false
	})
	return seq
}
