package crdt

import (
	"fmt"
	"testing"
	"time"
)

// feedOf is a conversation of n messages of 256 bytes.
func feedOf(n int) []record {
	r := &replica{name: "a", origin: NewOrigin("a", 1), st: NewMem(), seen: Vector{}, now: time.UnixMilli(1_700_000_000_000)}
	r.id = r.origin.ID()
	for i := range n {
		_ = r.put(Op{Kind: KindMsg, Session: "alice/trip", OID: fmt.Sprintf("01J%020d", i), User: "alice", Device: "phone",
			Role: "user", Text: string(make([]byte, 256))}, Floor{})
	}
	return r.feed
}

func BenchmarkApply(b *testing.B) {
	feed := feedOf(1000)
	b.ReportAllocs()
	st := NewMem()
	for i := 0; b.Loop(); i++ {
		if i%len(feed) == 0 {
			st = NewMem()
		}
		Apply(st, feed[i%len(feed)].op, feed[i%len(feed)].dot)
	}
}

func BenchmarkEncodeOp(b *testing.B) {
	op := feedOf(1)[0].op
	b.ReportAllocs()
	for b.Loop() {
		op.Encode()
	}
	b.ReportMetric(float64(len(op.Encode())-len(op.Text)), "overhead-B/op")
}

func BenchmarkDecodeOp(b *testing.B) {
	enc := feedOf(1)[0].op.Encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeOp(enc); err != nil {
			b.Fatal(err)
		}
	}
}
