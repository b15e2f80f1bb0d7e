package replication

import (
	"slices"
	"testing"
)

// TestHeirs: the clients of a node that ends go to the one that was restarted last, and all over the others if none was restarted since it was.
func TestHeirs(t *testing.T) {
	const day = 24 * 3600 * 1000
	node := func(name string, start int64) peer { return peer{Node: name, Start: start} }
	for _, c := range []struct {
		what   string
		now    int64
		own    int64
		others []peer
		want   []string // of the first clients, the names in order
	}{
		{"nobody else", 10 * day, 0, nil, []string{""}},
		{"the first of a rolling restart: all are about as old", 10 * day, 1000, []peer{node("b", 2000), node("c", 3000)}, []string{"cb", "bc", "cb"}},
		{"the first, with a gateway that was started before", 10 * day, 1000, []peer{node("b", 2000), node("c", 3000), {Node: "g", Start: 10*day - 9000, Gateway: true}}, []string{"gcb", "gcb"}},
		{"the second: the first has just come back", 10 * day, 2000, []peer{node("a", 10*day-9000), node("c", 3000)}, []string{"ac", "ac"}},
		{"the third: two have", 10 * day, 3000, []peer{node("a", 10*day-19000), node("b", 10*day-9000)}, []string{"ba", "ba"}},
		{"the first again, an hour later", 10*day + 3600_000, 10*day - 19000, []peer{node("b", 10*day-9000), node("c", 10*day)}, []string{"cb", "bc"}},
		{"older versions do not say", 10 * day, 1000, []peer{node("b", 0), node("c", 0)}, []string{"bc", "cb"}},
		{"an older version, and one that was restarted", 10 * day, 1000, []peer{node("b", 0), node("c", 10*day-1000)}, []string{"cb", "cb"}},
		{"a clock that is ahead", 10 * day, 1000, []peer{node("b", 10*day+5000), node("c", 2000)}, []string{"bc"}},
	} {
		before := slices.Clone(c.others)
		for n, want := range c.want {
			got := ""
			for _, m := range heirs(c.now, c.own, c.others, n) {
				got += m.Node
			}
			if got != want {
				t.Errorf("%s, client %d: %s, want %s", c.what, n, got, want)
			}
		}
		if !slices.Equal(before, c.others) {
			t.Errorf("%s: what it was given has changed", c.what)
		}
	}
}

// TestHeirsServe: nodes without data are heirs like others, and none without one that has data.
func TestHeirsServe(t *testing.T) {
	p := &Pool{cfg: PoolConfig{Region: "beijing"}, peers: map[string]peer{"beijing/g": {Region: "beijing", Node: "g", URL: "ws://g", Alive: true, Gateway: true}}}
	if to := p.Heirs(0); len(to) > 0 {
		t.Errorf("the only node with data sends its clients to %v", to)
	}
	p.peers["beijing/b"] = peer{Region: "beijing", Node: "b", URL: "ws://b", Alive: true}
	if to := p.Heirs(0); len(to) != 2 {
		t.Errorf("with another one, to %v", to)
	}
}
