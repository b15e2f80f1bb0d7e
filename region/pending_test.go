package region

import (
	"slices"
	"strings"
	"testing"
)

// TestPendingVotes: an operator is told what to do for as many to vote as are wanted, and nothing when they do.
func TestPendingVotes(t *testing.T) {
	nodes := []NodeStatus{{ID: "a", Alive: true}, {ID: "b", Alive: true}, {ID: "c", Alive: true}, {ID: "d"}}
	for _, c := range []struct {
		group map[string]bool
		size  int
		want  string
	}{
		{map[string]bool{"a": true}, 1, ""},
		{map[string]bool{"a": true}, 3, "of 3 nodes that are wanted to vote 1 do, and 2 more have to be started, with --bootstrap-expect 0"},
		{map[string]bool{"a": true, "b": false, "d": false}, 3, "of 3 nodes that are wanted to vote 1 do, and 1 more have to be started, with --bootstrap-expect 0"},
		{map[string]bool{"a": true, "b": false, "c": false}, 3, "of 3 nodes that are wanted to vote 1 do: others get a vote when they have caught up"},
		{map[string]bool{"a": true, "b": true, "c": true}, 1, "3 nodes vote, more than are wanted: they lose their vote one by one"},
	} {
		if got := strings.Join(pendingVotes(nodes, c.group, c.size), "; "); got != c.want {
			t.Errorf("%v of %d: %q", c.group, c.size, got)
		}
	}
}

// TestPendingLevel: whoever holds a feature level back is named, the dead as well.
func TestPendingLevel(t *testing.T) {
	voter := NodeStatus{ID: "a", Role: "voter", Level: 5, Alive: true}
	old, dead, stranger := voter, NodeStatus{ID: "c", Role: "voter", Error: "no answer"}, NodeStatus{ID: "d", Role: roleNone}
	old.ID, old.Level = "b", 4
	for _, c := range []struct {
		nodes []NodeStatus
		at    uint32
		want  []string
	}{
		{[]NodeStatus{voter, old, dead}, 5, nil},
		{[]NodeStatus{voter, old, stranger}, 4, []string{"feature level 5 waits for node b, which applies up to 4"}},
		{[]NodeStatus{voter, dead}, 4, []string{"feature level 5 waits for node c, which does not answer: start it, or have it leave"}},
		{[]NodeStatus{voter, stranger}, 4, []string{"feature level 5 comes when all nodes have been able to apply it for a minute"}},
	} {
		if got := pendingLevel(c.nodes, c.at, 5); !slices.Equal(got, c.want) {
			t.Errorf("%+v at %d: %q", c.nodes, c.at, got)
		}
	}
}

// TestWhyNotReady: a node that waits says for what.
func TestWhyNotReady(t *testing.T) {
	c := newCluster(t, 1, soon(1))
	if why := c.node("n1").NotReady(); why != "" {
		t.Errorf("a node that is ready: %q", why)
	}
	lone := c.launch("n2", t.TempDir(), 5)
	for _, said := range []func() string{lone.NotReady, func() string { return strings.Join(lone.Status(t.Context()).Pending, "; ") }} {
		c.until("it is said why n2 is not part of the region", func() bool { return strings.Contains(said(), "not part of the region yet: ") })
	}
}
