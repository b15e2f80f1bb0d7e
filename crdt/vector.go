package crdt

import (
	"maps"
	"slices"
)

// Vector says, per origin, up to which f something was seen. An absent origin means 0. The nil Vector is readable.
type Vector map[OriginID]uint64

// Covers reports whether everything w has seen, v has seen too.
func (v Vector) Covers(w Vector) bool {
	for id, f := range w {
		if v[id] < f {
			return false
		}
	}
	return true
}

// Merge raises v to the maximum of both.
func (v Vector) Merge(w Vector) {
	for id, f := range w {
		v[id] = max(v[id], f)
	}
}

// Clone returns a copy that shares nothing; never nil.
func (v Vector) Clone() Vector {
	c := make(Vector, len(v))
	maps.Copy(c, v)
	return c
}

// IDs returns the origins in ascending order: the canonical order of encodings.
func (v Vector) IDs() []OriginID {
	ids := make([]OriginID, 0, len(v))
	for id := range v {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// put writes the non-zero entries in canonical order: per origin id, then f, as one packed field.
func (v Vector) encode() []byte {
	if len(v) == 0 {
		return nil
	}
	return v.append(make([]byte, 0, len(v)*14))
}

func (v Vector) append(b []byte) []byte {
	e := enc(b)
	if len(v) == 1 { // as most are
		for id, f := range v {
			e.pair(id, f)
		}
		return e
	}
	for _, id := range v.IDs() {
		e.pair(id, v[id])
	}
	return e
}

func (e *enc) pair(id OriginID, f uint64) {
	if f > 0 {
		e.rawFixed32(uint32(id))
		e.rawVarint(f)
	}
}

func decodeVector(b []byte) (Vector, error) {
	v, d := Vector{}, dec{b: b}
	prev, first := OriginID(0), true
	for len(d.b) > 0 && d.err == nil {
		id, f := OriginID(d.rawFixed32()), d.rawVarint()
		if d.err == nil && (f == 0 || (!first && id <= prev)) {
			d.fail("vector is not canonical")
		}
		v[id], prev, first = f, id, false
	}
	return v, d.err
}

// EncodeVector and DecodeVector are the canonical binary form, used by tokens and by feeds.
func EncodeVector(v Vector) []byte { return v.encode() }

// DecodeVector is the inverse of EncodeVector; it refuses any other form of the same vector.
func DecodeVector(b []byte) (Vector, error) { return decodeVector(b) }
