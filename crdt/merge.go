package crdt

import (
	"bytes"
	"strings"
)

// Merge joins src into dst, so that dst has seen what either had. It is commutative, associative and idempotent on
// states that Apply can reach; the laws are tested under these names.
func Merge(dst, src Store) {
	if len(ReadHeader(dst).Seen) == 0 { // nothing to decide
		everything(src, dst.Set)
		return
	}
	src, forgotten := mergeExpiries(dst, src)
	mergeIdentities(dst, src)
	mergeSlots(dst, src)
	mergeReads(dst, src)
	mergeWritten(dst, src)
	mergeDots(dst, src)
	if len(ReadHeader(dst).Cut) > 0 || len(ReadHeader(src).Cut) > 0 { // else neither has removed anything
		mergeRemovals(dst)
	}
	h := ReadHeader(dst)
	h.merge(ReadHeader(src))
	if len(h.Seen) > 0 {
		h.write(dst)
	}
	joinExpiries(dst, src, h.Swept, forgotten)
}

func scanClass(st Store, class byte, visit func(name string, k, v []byte)) {
	lo, hi := classRange(class)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		visit(string(k[1:]), k, v)
		return true
	})
}

// mergeIdentities lets the standing copy of every op win, with what that copy put into the log or a register. Of what either
// side has removed nothing stays but the identity.
func mergeIdentities(dst, src Store) {
	scanClass(src, classIdentity, func(oid string, k, v []byte) {
		ours := dst.Get(k)
		if bytes.Equal(ours, v) { // as nearly all are, between two that have exchanged what they had
			return
		}
		id, old := identityAt(k, v), Identity{}
		gone, stands := id.Removed, true
		if ours != nil {
			old = identityAt(k, ours)
			gone, stands = gone || old.Removed, id.before(old)
			if !stands && gone == old.Removed {
				return
			}
			dropCopy(dst, old, oid)
		}
		if !stands {
			id = old
		}
		if gone {
			id.bury(dst, oid)
			return
		}
		dst.Set(k, v)
		if at := id.copyKey(oid); at != nil && src.Get(at) != nil {
			dst.Set(at, src.Get(at))
		}
	})
}

// copyKey is the element that holds the op's copy, if its kind has one.
func (id Identity) copyKey(oid string) []byte {
	switch {
	case id.Removed:
		return nil
	case id.reg != "":
		return registerKey(id.reg, id.Version(), oid)
	case id.Kind == KindMsg:
		return id.key(classEntry, oid)
	}
	return nil
}

func dropCopy(st Store, id Identity, oid string) {
	if k := id.copyKey(oid); k != nil {
		st.Delete(k)
		unmark(st, id.of())
	}
}

// of is the message whose register an op writes, or "".
func (id Identity) of() string {
	switch {
	case strings.HasPrefix(id.reg, "m"):
		return id.reg[1:]
	case strings.HasPrefix(id.reg, "x"):
		of, _, _ := strings.Cut(id.reg[1:], "\x01")
		return of
	}
	return ""
}

// unmark takes the mark from a message that has no edits or reactions any more.
func unmark(st Store, of string) {
	if of != "" && !hasVersions(st, of) {
		st.Delete(writtenKey(of))
	}
}

// versionPrefixes begin the keys of a message's edits and reactions.
func versionPrefixes(of string) [2][]byte {
	return [2][]byte{key(classRegister, []byte("m"+of), zero), key(classRegister, []byte("x"+of+"\x01"))}
}

// hasVersions reports whether there are edits or reactions of a message.
func hasVersions(st Store, of string) (found bool) {
	for _, prefix := range versionPrefixes(of) {
		hi := append(bytes.Clone(prefix), 0xff)
		st.Scan(prefix, hi, false, func(_, _ []byte) bool {
			found = true
			return false
		})
	}
	return found
}

// mergeWritten joins the marks: a message that src has edits of may have none where other copies of those stand.
func mergeWritten(dst, src Store) {
	scanClass(src, classWritten, func(of string, k, v []byte) {
		if hasVersions(dst, of) {
			dst.Set(k, v)
		}
	})
}

func mergeSlots(dst, src Store) {
	scanClass(src, classSlot, func(run string, k, v []byte) {
		if len(v) == 0 { // its question goes too
			if dst.Get(k) == nil {
				buryRun(dst, run)
			}
			return
		}
		theirs, _ := ReadSlot(src, run)
		ours, ok := ReadSlot(dst, run)
		if !ok {
			ours = &Slot{OID: run, seat: theirs.seat}
		} else if theirs.Place.Compare(ours.Place) < 0 {
			dst.Delete(ours.Place.key(classOpen, run))
			dst.Delete(ours.Place.key(classEntry, run))
			ours.seat = theirs.seat
		}
		stop := max(ours.Stop, theirs.Stop)
		if ours.behind(theirs) {
			ours.dropText(dst)
			ours.tenure = theirs.tenure
			copyText(dst, src, run)
		}
		ours.Stop = stop
		dst.Set(ours.Place.key(classEntry, run), nil)
		ours.write(dst)
	})
}

// behind reports whether what another copy holds of the answer replaces what this one holds. Active breaks the tie
// of equal length: a sign of life adds no text, and of two ends of one text the later stands (doneAgain).
func (s *Slot) behind(o *Slot) bool {
	if c := s.Attempt.Compare(o.Attempt); c != 0 {
		return c < 0
	}
	if closed := s.State.Closed(); closed != o.State.Closed() {
		return !closed
	} else if closed && s.Len != o.Len {
		return false
	}
	return s.Active < o.Active
}

// copyText copies an answer's text and the dots of its pieces.
func copyText(dst, src Store, run string) {
	lo, hi := pieceRange(run)
	src.Scan(lo, hi, false, func(k, v []byte) bool {
		dst.Set(k, v)
		dst.Set(dotKey(OriginID(be32dec(v)), be64dec(v[4:])), slotRef(run))
		return true
	})
	if text := src.Get(textKey(run)); text != nil {
		dst.Set(textKey(run), text)
	}
}

func mergeReads(dst, src Store) {
	scanClass(src, classRead, func(_ string, k, v []byte) {
		if b := dst.Get(k); b == nil || decodeMark(k, b).before(decodeMark(k, v)) {
			dst.Set(k, v)
		}
	})
}

// mergeDots joins the indexes of what each op touched. The dots of an answer's pieces went with the pieces: only
// those of pieces that dst holds now may stand.
func mergeDots(dst, src Store) {
	seen, pieces := ReadHeader(dst).Seen, map[string]bool{}
	scanClass(src, classPiece, func(_ string, _, v []byte) {
		pieces[string(dotKey(OriginID(be32dec(v)), be64dec(v[4:])))] = true
	})
	lo, hi := classRange(classDot)
	src.Scan(lo, hi, false, func(k, v []byte) bool {
		id, f := OriginID(be32dec(k[1:])), be64dec(k[5:])
		if f > seen[id] && !pieces[string(k)] {
			dst.Set(k, v)
		}
		return true
	})
}
