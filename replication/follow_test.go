package replication

import (
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/roamsync/roam/crdt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFollows(t *testing.T) {
	beijing, old, self := crdt.NewOrigin("beijing", 1), crdt.NewOrigin("shanghai", 1), crdt.NewOrigin("shanghai", 2)
	for _, c := range []struct {
		what   string
		origin crdt.Origin
		from   string
		up     []string
		ahead  bool
		want   bool
	}{
		{"from home, even if there is nothing yet", beijing, "beijing", []string{"beijing"}, false, true},
		{"not by relay while home answers", beijing, "guangzhou", []string{"beijing", "guangzhou"}, true, false},
		{"by relay when home does not", beijing, "guangzhou", []string{"guangzhou"}, true, true},
		{"not from one who has no more", beijing, "guangzhou", []string{"guangzhou"}, false, false},
		{"what we lost, from anyone", old, "beijing", []string{"beijing"}, true, true},
		{"never what we issue", self, "beijing", []string{"beijing"}, true, false},
	} {
		up := map[string]bool{}
		for _, r := range c.up {
			up[r] = true
		}
		if got := follows(c.origin, self, c.from, up, c.ahead); got != c.want {
			t.Errorf("%s: %t", c.what, got)
		}
	}
}

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
				m.ack("shanghai", o.ID(), 0, f)
			} else {
				m.heads("shanghai", o.ID(), []uint64{f})
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
				if got := m.holders(crdt.Dot{Origin: o, ID: o.ID(), F: g}, "beijing"); got != want {
					t.Fatalf("%d regions hold %d, cursor %d", got, g, top)
				}
			}
		}
	})
}

func TestReach(t *testing.T) {
	for _, c := range []struct {
		holders, peers int
		safe           bool
	}{{0, 0, true}, {0, 1, false}, {1, 1, true}, {1, 4, true}} {
		if got := reach(c.holders, c.peers); got.Safe != c.safe || got.Regions != c.holders {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	m, dot := newMatrix(), crdt.Dot{Origin: crdt.NewOrigin("shanghai", 1), F: 3}
	if got := m.holders(dot, "beijing"); got != 1 {
		t.Errorf("an op's home has it: %d", got)
	}
}
