package crdt

import (
	"bytes"
	"encoding/hex"
	"strconv"
)

// Trace says where in a trace an op was put, for the few ops whose journey is watched. It has the form of W3C Trace
// Context. It is not part of what the op means: neither its content hash nor any state depends on it.
type Trace struct {
	ID    [16]byte
	Span  [8]byte
	Flags byte
}

// traceSize is the length of an encoded Trace.
const traceSize = 16 + 8 + 1

// Valid reports whether both ids are set, as they have to be.
func (t Trace) Valid() bool { return t.ID != [16]byte{} && t.Span != [8]byte{} }

// String returns the value of a W3C traceparent header.
func (t Trace) String() string {
	return "00-" + hex.EncodeToString(t.ID[:]) + "-" + hex.EncodeToString(t.Span[:]) + "-" + hex.EncodeToString([]byte{t.Flags})
}

// ParseTrace is the inverse of String. As W3C asks, it also reads what later versions write, as far as it knows it.
func ParseTrace(s string) (t Trace, ok bool) {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return Trace{}, false
	}
	if len(s) > length && (s[:2] == "00" || s[length] != '-') {
		return Trace{}, false
	}
	var version, flags [1]byte
	for _, f := range []struct {
		to  []byte
		hex string
	}{{version[:], s[:2]}, {t.ID[:], s[3:35]}, {t.Span[:], s[36:52]}, {flags[:], s[53:55]}} {
		if !unhex(f.to, f.hex) {
			return Trace{}, false
		}
	}
	t.Flags = flags[0]
	return t, t.Valid()
}

// unhex reads lower-case hex: W3C allows no other.
func unhex(to []byte, s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(to, []byte(s))
	return err == nil
}

// encode returns nothing for no trace: such an op has the bytes that it had before there were any.
func (t *Trace) encode() []byte {
	if t == nil {
		return nil
	}
	b := make([]byte, 0, traceSize)
	b = append(append(b, t.ID[:]...), t.Span[:]...)
	return append(b, t.Flags)
}

func decodeTrace(d *dec) *Trace {
	b := d.bytes()
	if d.err != nil {
		return nil
	}
	t := &Trace{}
	if len(b) == traceSize {
		copy(t.ID[:], b)
		copy(t.Span[:], b[16:])
		t.Flags = b[24]
	}
	if !t.Valid() {
		d.fail("bad trace")
		return nil
	}
	return t
}

// traceTag is how a trace begins in an encoded op: number and type of its field, and its length.
var traceTag = []byte{0x82, 0x02, traceSize}

// MayBeTraced reports whether encoded bytes may hold an op with a trace. It is far cheaper than decoding, and errs
// only on the side of yes.
func MayBeTraced(b []byte) bool { return bytes.Contains(b, traceTag) }

var kindNames = map[Kind]string{
	KindMsg: "msg", KindRun: "run", KindStop: "stop", KindSet: "set", KindEdit: "edit", KindDel: "del",
	KindReact: "react", KindRead: "read", KindForget: "forget", KindTrim: "trim", KindPurge: "purge", KindExpire: "expire", KindBegin: "begin", KindChunk: "chunk", KindDone: "done",
}

// String returns the kind's name in the protocol.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return "kind " + strconv.Itoa(int(k))
}
