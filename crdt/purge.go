package crdt

import "maps"

// Idle returns what a session has seen, if nothing has been put to it and nothing answered since before, in ms since 1970, and there is
// something of it to remove.
func Idle(st Store, before int64) (seen Vector, idle bool) {
	h := ReadHeader(st)
	if len(h.Seen) == 0 || h.Last >= before || len(OpenRuns(st)) > 0 || !holds(st) {
		return nil, false
	}
	return h.Seen.Clone(), true
}

// holds reports whether anything of a session is left beside what makes removed ops known: an op that stays has its dot.
func holds(st Store) (some bool) {
	lo, hi := classRange(classDot)
	st.Scan(lo, hi, false, func(_, _ []byte) bool {
		some = true
		return false
	})
	return some
}

// IssuePurge judges the removal of a session that was found to be Idle: op.Seen is what it had seen then. It reports false if it is not
// so any more.
func IssuePurge(st Store, op *Op, before int64) bool {
	seen, idle := Idle(st, before)
	return idle && maps.Equal(seen, op.Seen)
}
