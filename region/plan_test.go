package region

import (
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/region/machine"
)

// nodes reads "a b- c? d~ e!": a votes, b- is dead, c? follows without a vote, d~ is lost, e! leaves.
func nodes(words string) (all []seen) {
	for w := range strings.FieldsSeq(words) {
		n := seen{id: w[:1], votes: true, alive: true}
		for _, mark := range w[1:] {
			switch mark {
			case '-':
				n.alive = false
			case '~':
				n.alive, n.lost = false, true
			case '?':
				n.votes = false
			case '!':
				n.out = machine.OutLeft
			}
		}
		all = append(all, n)
	}
	return all
}

func (c change) String() string {
	return [...]string{"", "promote ", "demote ", "remove ", "hand over to "}[c.do] + c.id
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		nodes string
		size  int
		want  string
	}{
		{"a", 1, ""},
		{"a b? c?", 1, ""},
		{"a b? c?", 3, "promote b"},
		{"a b c?", 3, "promote c"},
		{"a b c", 3, ""},
		{"a b-? c?", 3, "promote c"},
		{"a b c d e", 3, "demote e"},
		{"a b c d e-", 3, "remove e"},
		{"a b- c d e", 3, "remove b"},
		{"a b c d~ e-", 3, "remove d"},
		{"a b c", 1, "demote c"},
		{"a b", 1, "demote b"},
		{"b a", 1, "hand over to b"}, // a leads, and is the youngest
		{"a b-", 1, "remove b"},
		{"a b c-", 3, ""}, // it may come back
		{"a b c~", 3, ""}, // nobody can replace it
		{"a b c~ d?", 3, "promote d"},
		{"a b c- d?", 3, ""},
		{"a b c~ d", 3, "remove c"},
		{"a b c d- e-", 3, "remove e"},
		{"a b c! d?", 3, "promote d"}, // before c goes
		{"a b c!", 3, "remove c"},
		{"a b! c-", 3, ""}, // b is needed
		{"a b! c-!", 3, "remove c"},
		{"a! b c", 3, "hand over to b"},
		{"a!", 1, ""},
		{"a b?!", 1, "remove b"},
	} {
		o := outlook{self: "a", nodes: nodes(c.nodes), ready: func(string) bool { return true }}
		if got := o.plan(c.size, true).String(); got != c.want {
			t.Errorf("%s, %d are wanted: %q, want %q", c.nodes, c.size, got, c.want)
		}
	}
	o := outlook{self: "a", nodes: nodes("a b c d! e?"), ready: func(string) bool { return true }}
	if got := o.plan(3, false); got.do != stay {
		t.Errorf("at the first feature level: %v", got)
	}
	o.ready = func(string) bool { return false }
	if got := o.plan(5, true); got.do == promote {
		t.Error("a vote for a node that has not caught up")
	}
}

func TestMirror(t *testing.T) {
	for _, c := range []struct{ nodes, first, want string }{
		{"a b? c?", "a b c", "promote b"},
		{"a b c", "a b c?", "demote c"},
		{"b a", "b a?", "hand over to b"},
		{"a b c", "a b", ""}, // it may be about to be taken in there as well
		{"a b c!", "a b", "remove c"},
		{"a b- c!", "a b", ""}, // c is needed
		{"a b", "", ""},
	} {
		first := map[string]bool{}
		for _, n := range nodes(c.first) {
			first[n.id] = n.votes
		}
		o := outlook{self: "a", nodes: nodes(c.nodes), ready: func(string) bool { return true }}
		if got := o.mirror(first).String(); got != c.want {
			t.Errorf("%s after %s: %q, want %q", c.nodes, c.first, got, c.want)
		}
	}
}

// TestChangesKeepAMajority takes plans one after the other, from every state of up to five voters, until nothing is left to
// do: each leaves a majority of those who vote alive, and they end with as many votes as are wanted and can be had.
func TestChangesKeepAMajority(t *testing.T) {
	marks := []string{"", "-", "~", "?", "!", "?-"}
	for state := range 6 * 6 * 6 * 6 * 6 {
		var words []string
		for i, rest := 0, state; i < 5; i, rest = i+1, rest/6 {
			words = append(words, string(rune('a'+i))+marks[rest%6])
		}
		for _, size := range []int{1, 3, 5} {
			settle(t, strings.Join(words, " "), size)
		}
	}
}

func settle(t *testing.T, words string, size int) {
	t.Helper()
	o := outlook{nodes: nodes(words), ready: func(string) bool { return true }}
	if all, live := o.voters(); !majority(live, all) {
		return
	}
	for i := range o.nodes {
		if n := o.nodes[i]; n.votes && n.alive {
			o.self = n.id
		}
	}
	for range 20 {
		c := o.plan(size, true)
		for i := range o.nodes {
			if o.nodes[i].id == c.id {
				o.nodes[i].votes = c.do == promote
				if c.do == remove {
					o.nodes = append(o.nodes[:i:i], o.nodes[i+1:]...)
				}
				break
			}
		}
		if c.do == handOver {
			o.self, o.nodes = c.id, nodesWith(o.nodes, c.id)
		}
		all, live := o.voters()
		if !majority(live, all) {
			t.Fatalf("%s, %d are wanted: %d of %d live after %v", words, size, live, all, c)
		}
		if c.do == stay {
			return
		}
	}
	t.Fatalf("%s, %d are wanted: it does not end", words, size)
}

// nodesWith gives a node that was handed the lead its vote back.
func nodesWith(all []seen, id string) []seen {
	for i := range all {
		if all[i].id == id {
			all[i].votes = true
		}
	}
	return all
}

func TestLeaving(t *testing.T) {
	for _, c := range []struct {
		nodes, id string
		force     bool
		out, says string
	}{
		{"a b c", "b", false, "b", "2 stay that vote, and the region survives the loss of 0"},
		{"a b c-", "c", false, "c", "2 stay"},
		{"a b c-", "b", false, "", "--force"},
		{"a b c-", "b", true, "c b", "1 stay that vote, and the region survives the loss of 0"},
		{"a b c d- e-", "a", true, "d e a", "2 stay"},
		{"a", "a", true, "", "nobody is left"},
		{"a b-", "a", true, "", "nobody is left"},
		{"a b?", "b", false, "b", "no vote"},
		{"a", "x", false, "", "no node x"},
	} {
		out, told, err := leaving(nodes(c.nodes), c.id, c.force)
		if err != nil {
			told = err.Error()
		}
		if got := strings.Join(out, " "); got != c.out || !strings.Contains(told, c.says) {
			t.Errorf("%s leaves %s: %q, %q", c.id, c.nodes, got, told)
		}
	}
}

func TestLevelIsRaisedAfterAQuietTime(t *testing.T) {
	begin := time.Now()
	var s levelSeat
	for _, step := range []struct {
		after time.Duration
		able  uint32
		want  bool
	}{{0, 1, false}, {1, 2, false}, {60, 2, false}, {61, 0, false}, {62, 2, false}, {121, 2, false}, {122, 2, true}} {
		if got := s.due(begin.Add(step.after*time.Second), 1, step.able, time.Minute); got != step.want {
			t.Errorf("after %d s with %d: %v", step.after, step.able, got)
		}
	}
	if s.due(begin.Add(time.Hour), 2, 2, 0) {
		t.Error("raised to what it is")
	}
	if fresh := (levelSeat{fresh: true}); !fresh.due(begin, 1, 2, time.Minute) {
		t.Error("a new region waits")
	}
}
