package gateway

import (
	"fmt"
	"testing"

	"github.com/roamsync/roam/crdt"
)

// BenchmarkToken makes and reads tokens of sessions that were written in some regions, each of which has committed a
// hundred thousand ops of the partition; token-B is what a client keeps.
func BenchmarkToken(b *testing.B) {
	tk := tokens{testKeys}
	for _, origins := range []int{1, 3, 8} {
		pos := position{seen: crdt.Vector{}, floor: crdt.Floor{Seq: 10_000, Stamp: 1 << 58}}
		for i := range origins {
			pos.seen[crdt.NewOrigin(fmt.Sprintf("region-%d", i), 1).ID()] = 100_000
		}
		cur := tk.mint(&pos, "alice", "alice/a")
		b.Run(fmt.Sprintf("mint/origins=%d", origins), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				cur = tk.mint(&pos, "alice", "alice/a")
			}
			b.ReportMetric(float64(len(cur)), "token-B")
		})
		b.Run(fmt.Sprintf("parse/origins=%d", origins), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tk.parse(cur, "alice", "alice/a"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(cur)), "token-B")
		})
	}
}
