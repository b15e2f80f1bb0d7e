package app

import (
	"strings"
	"testing"

	"github.com/roamsync/roam/gateway"
)

// TestEdgeStatusSays: an operator sees where an edge's clients are, and which node is gone.
func TestEdgeStatusSays(t *testing.T) {
	for _, c := range []struct {
		through []gateway.Through
		want    string
	}{
		{nil, "nobody, since no node that holds data is up."},
		{[]gateway.Through{{Addr: "a", Clients: 1}, {Addr: "b", Clients: 2}, {Addr: "c", Gone: true}}, "a (1 client), b (2 clients), c (gone)."},
	} {
		var out strings.Builder
		s := edgeStatus{Region: "beijing", Node: "g1", Through: c.through}
		if err := s.print(&out); err != nil || !strings.Contains(out.String(), "through "+c.want) {
			t.Errorf("%v: %q", err, out.String())
		}
	}
}
