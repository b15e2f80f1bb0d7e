package crdt

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrCorrupt marks bytes that are not the canonical encoding of anything.
var ErrCorrupt = errors.New("corrupt encoding")

// The encoding is protobuf's wire format made canonical: fields ascend, zero values are left out, varints are
// minimal. So equal values have equal bytes, and a later version can add fields that this one keeps.

// enc appends fields; the caller writes them in ascending order.
type enc []byte

func (e *enc) rawVarint(v uint64)  { *e = protowire.AppendVarint(*e, v) }
func (e *enc) rawFixed32(v uint32) { *e = protowire.AppendFixed32(*e, v) }

func (e *enc) uint(n protowire.Number, v uint64) {
	if v != 0 {
		*e = protowire.AppendVarint(protowire.AppendTag(*e, n, protowire.VarintType), v)
	}
}

func (e *enc) int(n protowire.Number, v int64) { e.uint(n, protowire.EncodeZigZag(v)) }

func (e *enc) bool(n protowire.Number, v bool) { e.uint(n, protowire.EncodeBool(v)) }

func (e *enc) fixed(n protowire.Number, v uint64) {
	if v != 0 {
		*e = protowire.AppendFixed64(protowire.AppendTag(*e, n, protowire.Fixed64Type), v)
	}
}

func (e *enc) bytes(n protowire.Number, v []byte) {
	if len(v) > 0 {
		e.element(n, v)
	}
}

func (e *enc) str(n protowire.Number, v string) {
	if v != "" {
		*e = protowire.AppendString(protowire.AppendTag(*e, n, protowire.BytesType), v)
	}
}

// element writes a member of a repeated field, empty ones too.
func (e *enc) element(n protowire.Number, v []byte) {
	*e = protowire.AppendBytes(protowire.AppendTag(*e, n, protowire.BytesType), v)
}

// dec reads fields; the first error sticks and ends the loop.
type dec struct {
	b    []byte
	text string // the whole input, of which strings are parts; empty: each is a copy of its own
	num  protowire.Number
	typ  protowire.Type
	last protowire.Number
	tag  []byte // the current field from its tag on
	err  error
}

func (d *dec) fail(why string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, why)
	}
	d.b = nil
}

// next moves to the next field and reports whether there is one.
func (d *dec) next() bool {
	if d.err != nil || len(d.b) == 0 {
		return false
	}
	num, typ, n := protowire.Number(d.b[0]>>3), protowire.Type(d.b[0]&7), 1
	if d.b[0] >= 0x80 || num == 0 { // most tags are one byte
		num, typ, n = protowire.ConsumeTag(d.b)
		if n < 0 || n != protowire.SizeTag(num) {
			d.fail("bad tag")
			return false
		}
	}
	if num < d.last {
		d.fail(fmt.Sprintf("field %d after %d", num, d.last))
		return false
	}
	d.tag, d.b, d.num, d.typ = d.b, d.b[n:], num, typ
	return true
}

// single marks the current field as one that may not come again.
func (d *dec) want(t protowire.Type, again bool) bool {
	if d.typ != t {
		d.fail(fmt.Sprintf("field %d has wire type %d", d.num, d.typ))
		return false
	}
	d.last = d.num
	if !again {
		d.last++
	}
	return true
}

func (d *dec) rawVarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := protowire.ConsumeVarint(d.b)
	if n < 0 || n != protowire.SizeVarint(v) {
		d.fail("bad varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) rawFixed32() uint32 {
	v, n := protowire.ConsumeFixed32(d.b)
	if n < 0 {
		d.fail("short fixed32")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) uint() uint64 {
	if !d.want(protowire.VarintType, false) {
		return 0
	}
	v := d.rawVarint()
	if v == 0 {
		d.fail("zero value written out")
	}
	return v
}

func (d *dec) uint8() uint8 {
	v := d.uint()
	if v > 255 {
		d.fail("value above 255")
	}
	return uint8(v)
}

func (d *dec) uint32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.fail("value above 32 bits")
	}
	return uint32(v)
}

func (d *dec) int() int64 { return protowire.DecodeZigZag(d.uint()) }

func (d *dec) bool() bool {
	v := d.uint()
	if v > 1 {
		d.fail("bool above 1")
	}
	return v == 1
}

func (d *dec) fixed() uint64 {
	if !d.want(protowire.Fixed64Type, false) {
		return 0
	}
	v, n := protowire.ConsumeFixed64(d.b)
	if n < 0 || v == 0 {
		d.fail("bad fixed64")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) stamp() Stamp {
	s := Stamp(d.fixed())
	if s >= maxStamp {
		d.fail("stamp out of range")
	}
	return s
}

func (d *dec) origin() OriginID {
	v := d.fixed()
	if v > 1<<32-1 {
		d.fail("origin above 32 bits")
	}
	return OriginID(v)
}

// bytes aliases the input.
func (d *dec) bytes() []byte {
	v := d.member(false)
	if len(v) == 0 {
		d.fail("empty value written out")
	}
	return v
}

func (d *dec) str() string { return d.part(d.bytes()) }

// part is what was just read as a string.
func (d *dec) part(v []byte) string {
	if d.text == "" || d.err != nil {
		return string(v)
	}
	end := len(d.text) - len(d.b)
	return d.text[end-len(v) : end]
}

func (d *dec) member(again bool) []byte {
	if !d.want(protowire.BytesType, again) {
		return nil
	}
	n := d.rawVarint()
	if n > uint64(len(d.b)) {
		d.fail("short bytes")
	}
	if d.err != nil {
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// unknown returns the current field and all after it, unread. Newer fields have higher numbers, so they are last.
func (d *dec) unknown() []byte {
	rest, last := d.tag, protowire.Number(0)
	for b := rest; len(b) > 0; {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 || num < last {
			d.fail("bad unknown field")
			return nil
		}
		b, last = b[n:], num
	}
	d.b = nil
	return rest
}
