package crdt

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestTraceMeansNothing: an op with a trace, another one or none is the same op, and leaves the same state.
func TestTraceMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.settle()
		bare := NewMem()
		for _, rec := range inStampOrder(w) {
			op := *rec.op
			op.Trace = nil
			if op.ContentHash() != rec.op.ContentHash() {
				t.Fatalf("the content hash of %v depends on its trace", rec.dot)
			}
			if rec.op.Trace != nil && !MayBeTraced(rec.op.Encode()) {
				t.Fatalf("the trace of %v is not seen", rec.dot)
			}
			if rec.op.Trace != nil && bytes.Equal(op.Encode(), rec.op.Encode()) {
				t.Fatalf("%v does not carry its trace", rec.dot)
			}
			Apply(bare, &op, rec.dot)
		}
		sameSession(t, "without traces", w.regions[0].st, bare)
	})
}

// inStampOrder lists all that was issued, causes first.
func inStampOrder(w *world) []record {
	u, all := &replica{st: NewMem(), seen: Vector{}}, []record{}
	for moved := true; moved; {
		moved = false
		for _, from := range w.regions {
			for u.pull(from) {
				all = append(all, from.feed[u.seen[from.id]-1])
				moved = true
			}
		}
	}
	return all
}

func TestRetryWithAnotherTraceIsNoConflict(t *testing.T) {
	st, o := NewMem(), NewOrigin("a", 1)
	op := &Op{Kind: KindMsg, Session: "a/b", OID: "m1", Text: "x", Seq: 1, Trace: full().Trace}
	Apply(st, op, Dot{Origin: o, ID: o.ID(), F: 1})
	again := *op
	again.Trace = &Trace{ID: [16]byte{9}, Span: [8]byte{9}}
	if err := Check(st, []*Op{&again}, Floor{}); err != nil {
		t.Error(err)
	}
	if _, known := Issue(st, &again, Floor{}); !known {
		t.Error("it counts as another op")
	}
}

func TestBadTracesAreRefused(t *testing.T) {
	good := (&Op{Kind: KindMsg, Trace: full().Trace}).Encode()
	if _, err := DecodeOp(good); err != nil {
		t.Fatal(err)
	}
	head := good[:len(good)-traceSize-1]
	for name, trace := range map[string][]byte{
		"empty": {}, "short": make([]byte, traceSize-1), "long": make([]byte, traceSize+1), "no ids": make([]byte, traceSize),
		"no span": append([]byte{1}, make([]byte, traceSize-1)...),
	} {
		b := append(append(append([]byte{}, head...), byte(len(trace))), trace...)
		if _, err := DecodeOp(b); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestParseTrace(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	good := "00-" + id + "-" + span + "-01"
	tr, ok := ParseTrace(good)
	if !ok || tr.String() != good || tr.Flags != 1 {
		t.Fatalf("%v, %v", tr, ok)
	}
	if _, ok := ParseTrace("01-" + id + "-" + span + "-01-later"); !ok {
		t.Error("a later version was refused")
	}
	for _, bad := range []string{
		"", good[:54], good + "-", good + "0", "ff" + good[2:], strings.ToUpper(good), strings.Replace(good, "-", "_", 1),
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01", "00-" + id + "-" + strings.Repeat("0", 16) + "-01",
		"0g" + good[2:], good[:53] + "0x", "01-" + id + "-" + span + "-01later",
	} {
		if tr, ok := ParseTrace(bad); ok {
			t.Errorf("%q was read as %v", bad, tr)
		}
	}
}

// FuzzParseTrace: whatever is read has ids, and is written as it was read.
func FuzzParseTrace(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-x")
	f.Fuzz(func(t *testing.T, s string) {
		if tr, ok := ParseTrace(s); ok && (!tr.Valid() || tr.String()[2:] != s[2:55]) {
			t.Fatalf("%q is read as %s", s, tr)
		}
	})
}
