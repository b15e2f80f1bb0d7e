package replication

import (
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMatrixOnlyGrows: whatever order acknowledgements and heads come in, a cursor never goes back, and whoever
// watches is told exactly when one grew.
func TestMatrixOnlyGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, told := newMatrix(), 0
		defer m.watch(func() { told++ })()
		o := crdt.NewOrigin("beijing", 1)
		top := uint64(0)
		for range rapid.IntRange(1, 30).Draw(t, "n") {
			f, before := rapid.Uint64Range(0, 9).Draw(t, "f"), told
			if rapid.Bool().Draw(t, "ack") {
				m.acks("shanghai", 1, []acked{{o.ID(), 0, f}})
			} else {
				m.heads("shanghai", 1, feeds.All, o.ID(), []uint64{f})
			}
			if (told > before) != (f > top) {
				t.Fatalf("cursor %d, then %d: told %d times", top, f, told-before)
			}
			top = max(top, f)
			for g := uint64(1); g < 12; g++ {
				want := 0
				if g <= top {
					want = 1
				}
				if got := m.holders(crdt.Dot{Origin: o, ID: o.ID(), F: g}, "beijing", nil); got != want {
					t.Fatalf("%d regions hold %d, cursor %d", got, g, top)
				}
			}
		}
	})
}
