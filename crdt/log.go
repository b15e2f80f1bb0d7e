package crdt

import "slices"

// Log visits all entries, in their order, until visit returns false.
func Log(st Store, visit func(*Entry) bool) {
	lo, hi := classRange(classEntry)
	st.Scan(lo, hi, false, func(k, _ []byte) bool { return visit(viewAt(st, slices.Clone(k))) })
}

// Blank reports whether nothing that anybody has put in a session is left, shown or not: no message, answer, value, edit, reaction
// or read mark. Ids of what was removed may be.
func Blank(st Store) bool {
	blank := len(Read(st)) == 0
	for _, class := range []byte{classEntry, classPiece, classText, classRegister} {
		lo, hi := classRange(class)
		st.Scan(lo, hi, false, func(_, _ []byte) bool {
			blank = false
			return false
		})
	}
	return blank
}
