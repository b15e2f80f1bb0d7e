package crdt

import (
	"bytes"
	"fmt"
)

// CheckSession refuses what cannot be the elements of a session, in order of their keys, as another region sends them: Merge and
// whoever reads what it leaves trust them, and end the process for what does not read back.
func CheckSession(keys, values [][]byte) error {
	st := NewMem()
	for i, k := range keys {
		if i > 0 && bytes.Compare(keys[i-1], k) >= 0 {
			return fmt.Errorf("%w: element %q after %q", ErrCorrupt, k, keys[i-1])
		}
		if err := CheckElement(k, values[i]); err != nil {
			return err
		}
		st.Set(k, values[i])
	}
	if st.Get(headerKey) == nil {
		return fmt.Errorf("%w: a session without a header", ErrCorrupt)
	}
	for i, k := range keys {
		if missing := needs(st, k, values[i]); missing != nil {
			return fmt.Errorf("%w: element %q without %q", ErrCorrupt, k, missing)
		}
	}
	return nil
}

// needs is the element that another cannot be shown without, if it is not there.
func needs(st Store, k, v []byte) []byte {
	switch k[0] {
	case classIdentity:
		if id := identityAt(k, v); id.Kind == KindMsg && !id.Removed {
			if at := id.key(classEntry, string(k[1:])); len(st.Get(at)) == 0 {
				return at
			}
		}
	case classEntry, classOpen:
		if _, oid := placeOf(k); len(v) == 0 && len(st.Get(slotKey(oid))) == 0 {
			return slotKey(oid)
		}
	}
	return nil
}

// CheckElement refuses what does not read back as an element of a session.
func CheckElement(k, v []byte) error {
	if len(k) == 0 {
		return fmt.Errorf("%w: element without a key", ErrCorrupt)
	}
	if err := checkElement(k[0], k[1:], v); err != nil {
		return fmt.Errorf("element %q: %w", k, err)
	}
	return nil
}

func checkElement(class byte, name, v []byte) error {
	switch class {
	case classHeader:
		return checkHeader(name, v)
	case classIdentity:
		return checkIdentity(name, v)
	case classSlot:
		return checkSlot(name, v)
	case classEntry:
		return checkEntry(name, v)
	case classOpen:
		return sure(placeOK(name) && len(v) == 0)
	case classWritten:
		return sure(nameOK(name) && len(v) == 0)
	case classText:
		return sure(nameOK(name))
	case classPiece:
		run, off, _ := bytes.Cut(name, zero)
		return sure(nameOK(run) && len(off) == 8 && len(v) > pieceHead)
	case classRegister:
		return checkRegister(name, v)
	case classDot:
		return sure(len(name) == 12 && refOK(v))
	case classExpiry:
		return checkExpiry(name, v)
	case classRead:
		if _, err := parseMark(v); err != nil {
			return err
		}
		return sure(nameOK(name))
	}
	return fmt.Errorf("%w: unknown class", ErrCorrupt)
}

// sure is an error unless ok.
func sure(ok bool) error {
	if ok {
		return nil
	}
	return ErrCorrupt
}

func checkHeader(name, v []byte) error {
	h, err := decodeHeader(v)
	if err != nil {
		return err
	}
	return sure(len(name) == 0 && len(h.Seen) > 0)
}

func checkIdentity(oid, v []byte) error {
	id, err := decodeIdentity(v)
	if err != nil {
		return err
	}
	return sure(nameOK(oid) && originOK(id.At) && !bytes.Contains([]byte(id.reg), zero))
}

func checkSlot(run, v []byte) error {
	if len(v) == 0 { // it was removed
		return sure(nameOK(run))
	}
	s, err := decodeSlot(string(run), v)
	if err != nil {
		return err
	}
	return sure(nameOK(run) && originOK(s.At))
}

func checkEntry(name, v []byte) error {
	if !placeOK(name) || len(v) == 0 {
		return sure(placeOK(name))
	}
	op, err := DecodeOp(v)
	if err != nil {
		return err
	}
	_, oid, _ := bytes.Cut(name[8:], zero)
	return sure(op.Kind == KindMsg && op.OID == string(oid))
}

func checkRegister(name, v []byte) error {
	reg, rest, _ := bytes.Cut(name, zero)
	op, err := DecodeOp(v)
	if err != nil {
		return err
	}
	const version = 12
	return sure(len(rest) > version && op.OID == string(rest[version:]) && len(reg) > 0 && registerOf(op) == string(reg) &&
		op.Stamp == versionOf(rest).Stamp)
}

func checkExpiry(name, v []byte) error {
	op, err := DecodeOp(v)
	if err != nil {
		return err
	}
	return sure(len(name) == 12 && op.Kind == KindExpire)
}

// refOK reports whether decodeRef can read a dot's value.
func refOK(v []byte) bool {
	switch {
	case len(v) == 0:
		return false
	case v[0] == classEntry:
		return len(v) > 9
	}
	return (v[0] == classSlot || v[0] == classIdentity) && len(v) > 1
}

// placeOK reports whether placeOf can split what follows the class.
func placeOK(name []byte) bool {
	if len(name) < 8 {
		return false
	}
	at, oid, _ := bytes.Cut(name[8:], zero)
	return originOK(Origin(at)) && nameOK(oid)
}

func originOK(o Origin) bool {
	_, err := ParseOrigin(string(o))
	return err == nil
}

// nameOK reports whether what is to be an oid, a run or a user has none of the bytes that separate them in keys.
func nameOK(name []byte) bool {
	return len(name) > 0 && bytes.IndexFunc(name, func(r rune) bool { return r < 0x20 }) < 0
}
