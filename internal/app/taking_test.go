package app

import (
	"strings"
	"testing"

	"github.com/roamsync/roam/region"
)

// TestStatusShowsTransfers: who takes the state of another node, and how far it is, is there for people to read; who takes none is not.
func TestStatusShowsTransfers(t *testing.T) {
	var s status
	s.Raft.Size = 1
	s.Raft.Nodes = []region.NodeStatus{{ID: "b1.x", Alive: true}, {ID: "b3.y", Alive: true, Taking: []region.Taking{
		{Group: 2, From: "b1.x", Keys: 7816, Bytes: 40 << 20, Own: 32 << 20, Seconds: 9, Tries: 3},
	}}}
	text := func() string {
		var b strings.Builder
		if err := s.print(&b); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(b.String()), " ")
	}
	if got := text(); !strings.Contains(got, "FOR TRY b3.y 2 b1.x 7816 40.0 32.0 9 s 3 REGION") || !strings.Contains(got, "1 node is wanted") {
		t.Error(got)
	}
	s.Raft.Nodes[1].Taking = nil
	if got := text(); strings.Contains(got, "TAKES") {
		t.Error(got)
	}
}
