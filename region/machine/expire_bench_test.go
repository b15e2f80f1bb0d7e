package machine

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// BenchmarkExpire is what it takes to forget the ids of a long session, all at once: by id, and the longest that an entry holds up what is applied after it.
func BenchmarkExpire(b *testing.B) {
	const n = 20_000
	var took, longest time.Duration
	for range b.N {
		m, err := New(Config{Region: "a", Store: NewMem()})
		if err != nil {
			b.Fatal(err)
		}
		a := &alone{Machine: m, t: &testing.T{}}
		a.do(&Command{Kind: KindRenew, Next: crdt.NewOrigin("a", 1)})
		for i := range n {
			a.put("u/s", &crdt.Op{Kind: crdt.KindMsg, OID: fmt.Sprintf("%026d", i), Text: "x", User: "u"})
		}
		a.put("u/s", &crdt.Op{Kind: crdt.KindForget, OID: "f"})
		now := time.UnixMilli(1_700_000_000_000)
		a.later(&Command{Kind: KindMark, Ops: []*crdt.Op{{Kind: crdt.KindExpire, Session: "u/s"}}}, now)
		for known := n + 1; known > 0; {
			base := a.Cursors(crdt.PartitionOf("u/s")).Clone()
			start := time.Now()
			a.later(&Command{Kind: KindExpire, Before: now.UnixMilli(), Ops: []*crdt.Op{{Kind: crdt.KindExpire, Session: "u/s", Base: base}}}, now)
			d := time.Since(start)
			took, longest, known = took+d, max(longest, d), known-maxIDs
		}
		if keys, _ := a.elements("u/s"); keys > 100 {
			b.Fatalf("%d elements are left", keys)
		}
	}
	b.ReportMetric(float64(took.Microseconds())/float64(b.N)/n, "µs/id")
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms/entry")
	b.ReportMetric(0, "ns/op")
}
