package crdt

import (
	"bytes"
	"testing"
)

// Whatever decodes is canonical, so it encodes to the same bytes; what is not ends with an error. Ops, vectors and traces come
// from outside (encode_test.go, trace_test.go); elements do when a state is taken over.

func fuzzElement(f *testing.F, class byte, reencode func(v []byte) ([]byte, error)) {
	everything(script().st, func(k, v []byte) {
		if k[0] == class {
			f.Add(bytes.Clone(v))
		}
	})
	f.Fuzz(func(t *testing.T, v []byte) {
		if back, err := reencode(v); err == nil && !bytes.Equal(back, v) {
			t.Fatalf("%x encodes to %x", v, back)
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	fuzzElement(f, classHeader, func(v []byte) ([]byte, error) { return reencode([]byte{classHeader}, v) })
}

func FuzzDecodeIdentity(f *testing.F) {
	fuzzElement(f, classIdentity, func(v []byte) ([]byte, error) { return reencode([]byte{classIdentity}, v) })
}

func FuzzDecodeSlot(f *testing.F) {
	fuzzElement(f, classSlot, func(v []byte) ([]byte, error) { return reencode([]byte{classSlot}, v) })
}

func FuzzDecodeMark(f *testing.F) {
	fuzzElement(f, classRead, func(v []byte) ([]byte, error) {
		m, err := parseMark(v)
		if err != nil {
			return nil, err
		}
		return append(be32(uint32(m.by)), m.op.Encode()...), nil
	})
}
