package feeds

import (
	"testing"

	"github.com/roamsync/roam/crdt"
)

func TestReach(t *testing.T) {
	for _, c := range []struct {
		holders, peers int
		doubts, safe   bool
	}{{0, 0, false, true}, {0, 0, true, false}, {0, 1, false, false}, {1, 1, false, true}, {1, 4, true, true}} {
		if got := Reach(c.holders, c.peers, func() bool { return c.doubts }); got.Safe != c.safe || got.Regions != c.holders {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	m, dot := &Matrix{}, crdt.Dot{Origin: crdt.NewOrigin("shanghai", 1), F: 3}
	if got := m.Holders(dot, "beijing", nil); got != 1 {
		t.Errorf("an op's home has it: %d", got)
	}
}
