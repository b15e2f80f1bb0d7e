package gateway

import (
	"testing"

	"github.com/roamsync/roam/crdt"
)

// v is a vector of the cursors of home and away.
func v(home, away uint64) crdt.Vector {
	return crdt.Vector{1: home, 2: away}
}

// TestDecide: how a client is shown what it lacks, by what it holds. The last removal in the session is covered by 5 of home.
func TestDecide(t *testing.T) {
	cut := v(5, 0)
	for _, c := range []struct {
		name string
		at   moment
		lost bool
		h    holding
		want string
	}{
		{"without a token", opened, false, holding{cur: curNone}, whyNew},
		{"with a bad one", opened, false, holding{cur: curBad}, whyResync},
		{"it has seen the removal", opened, false, holding{cur: curGood, came: position{seen: v(5, 9)}}, ""},
		{"it has not", opened, false, holding{cur: curGood, came: position{seen: v(4, 9)}}, whyFloor},
		{"a region that was behind had it", opened, false, holding{cur: curGood, came: position{seen: v(5, 9), lent: v(5, 0)}}, ""},
		{"one had not", opened, false, holding{cur: curGood, came: position{seen: v(5, 9), lent: v(4, 0)}}, whyFloor},
		{"its token may speak of more than it holds", opened, false, holding{cur: curGood, came: position{seen: v(5, 9)}, stale: true}, whyFloor},
		{"what it was told of is gone", opened, true, holding{cur: curGood, came: position{seen: v(5, 9)}}, whyFloor},
		{"it was told of much", opened, false, holding{cur: curGood, came: position{seen: v(5, 9)}, told: make([]string, toldMost+1)}, whyFloor},
		{"what it has seen is nowhere", opened, false, holding{cur: curGood, came: position{seen: v(5, 9)}, resync: true}, whyResync},

		{"the region had the removal when it came", caughtUp, false, holding{base: v(5, 0), pos: position{seen: v(6, 9)}}, ""},
		{"it had not", caughtUp, false, holding{base: v(4, 0), pos: position{seen: v(6, 9)}}, whyFloor},
		{"shown anew since", caughtUp, false, holding{base: v(4, 0), replaced: true, pos: position{seen: v(5, 0)}}, ""},
		{"shown anew before", caughtUp, false, holding{base: v(4, 0), replaced: true, pos: position{seen: v(4, 0)}}, whyFloor},
		{"told of much since it came", caughtUp, false, holding{base: v(5, 0), told: make([]string, toldMost+1)}, whyFloor},
		{"some of it is nowhere", caughtUp, false, holding{base: v(5, 0), resync: true}, whyResync},

		{"merged below what it was shown", merged, false, holding{pos: position{seen: v(5, 0)}}, ""},
		{"merged with a removal", merged, false, holding{pos: position{seen: v(4, 0)}}, whyFloor},
		{"behind, with one that it has seen elsewhere", merged, false, holding{behind: true, here: v(4, 0), pos: position{seen: v(9, 9)}}, whyFloor},
		{"behind, and shown since", merged, false, holding{behind: true, here: v(5, 0), pos: position{seen: v(9, 9)}}, ""},

		{"something is removed", removed, false, holding{pos: position{seen: v(9, 9)}}, whyFloor},
		{"and some is nowhere", removed, false, holding{pos: position{seen: v(9, 9)}, resync: true}, whyResync},
	} {
		if got := c.h.decide(c.at, cut, c.lost); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestTokenSays: what the token of a client says of what it holds.
func TestTokenSays(t *testing.T) {
	h := holding{cur: curGood, came: position{seen: v(2, 9)}, pos: position{seen: crdt.Vector{}}}
	h.await()
	is := func(what string, seen, shown, lent crdt.Vector) {
		t.Helper()
		pos := h.token()
		for i, pair := range [][2]crdt.Vector{{pos.seen, seen}, {pos.shown, shown}, {pos.lent, lent}} {
			if (pair[0] == nil) != (pair[1] == nil) || !pair[0].Covers(pair[1]) || !pair[1].Covers(pair[0]) {
				t.Errorf("%s: part %d is %v, want %v", what, i, pair[0], pair[1])
			}
		}
	}
	h.behind = true
	h.more(opened, crdt.Header{Seen: v(4, 1)})
	is("behind", v(2, 9), v(4, 1), v(4, 1))
	h.clamp(crdt.Finals{2: 7})
	is("some is nowhere, and it holds that", v(2, 9), v(4, 1), v(4, 1))
	if !h.left.Covers(v(2, 7)) || h.left.Covers(v(2, 8)) {
		t.Errorf("waited for is %v", h.left)
	}
	h.anew(crdt.Header{Seen: v(5, 1)})
	is("shown anew, and told", v(5, 1), v(5, 7), v(5, 1))
	h.behind = false
	h.more(caughtUp, crdt.Header{Seen: v(5, 7)})
	is("caught up", v(5, 7), nil, nil)
}
