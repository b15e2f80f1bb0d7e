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
		{map[string]bool{"a": true}, 3, "of 3 nodes that are wanted to vote 1 do, and 2 more have to be started (new ones with --bootstrap-expect 0)"},
		{map[string]bool{"a": true, "b": false, "d": false}, 3, "of 3 nodes that are wanted to vote 1 do, and 1 more have to be started (new ones with --bootstrap-expect 0)"},
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

// TestWhyNotReady: a node that waits says for what, and does not wait for a region to be founded that is there.
func TestWhyNotReady(t *testing.T) {
	c := newCluster(t, 0, soon(1))
	n1 := c.launch("n1", t.TempDir(), 3)
	said := func() string { return strings.Join(n1.Status(t.Context()).Pending, "; ") }
	const want = "this node is not part of the region yet: 1 of 3 nodes are up"
	c.until("it is said what is missing", func() bool { return n1.NotReady() == want && said() == want })
	c.launch("n2", t.TempDir(), 3)
	c.launch("n3", t.TempDir(), 3)
	c.until("it is ready", func() bool { return n1.NotReady() == "" && said() == "" })
	n4 := c.launch("n4", t.TempDir(), 5)
	c.until("n4 knows how many groups there are", func() bool { return len(n4.all()) > 0 })
	if _, why := n4.whyNotFound(t.Context(), n4.all()); !strings.Contains(why, "belongs to it already") {
		t.Errorf("n4 waits for %q", why)
	}
}
