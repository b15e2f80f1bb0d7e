package feeds

import (
	"fmt"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire/peerpb"
)

// TestHome: each region has about its share, and only the share of a region that goes gets another home.
func TestHome(t *testing.T) {
	three, two, n := []string{"beijing", "guangzhou", "shanghai"}, []string{"shanghai", "beijing"}, map[string]int{}
	for i := range 3000 {
		s := fmt.Sprint("alice/", i)
		home := Home(s, three)
		n[home]++
		if now := Home(s, two); home != "guangzhou" && now != home {
			t.Errorf("%s moves from %s to %s", s, home, now)
		}
	}
	for _, r := range three {
		if n[r] < 850 || n[r] > 1150 {
			t.Errorf("%s has %d of 3000", r, n[r])
		}
	}
	if Home("alice/1", nil) != "" {
		t.Error("without regions there is a home")
	}
}

// TestStable: what all have is known only if each other region says that it is of the level, and has nothing that is not here.
func TestStable(t *testing.T) {
	var m Matrix
	a, b := crdt.OriginID(1), crdt.OriginID(2)
	own, others, silent := crdt.Vector{a: 9, b: 5}, []string{"shanghai", "chengdu"}, ""
	heard := func(region string) bool { return region != silent }
	stable := func(want string) {
		t.Helper()
		v, ok := m.Stable(&ending{have: own}, others, 7, 5, heard)
		if got := fmt.Sprint(v, ok); got != want {
			t.Errorf("stable is %s, want %s", got, want)
		}
	}
	no := "map[] false"
	stable(no)
	for _, region := range others {
		m.Ack(region, 1, a, 7, 3)
		m.Told(region, &peerpb.Heads{Level: 5})
	}
	m.Ack("chengdu", 1, b, 7, 4)
	stable("map[1:3 2:0] true")
	m.Told("chengdu", &peerpb.Heads{Level: 4})
	stable(no)
	m.Told("chengdu", &peerpb.Heads{Level: 6})
	m.Ack("shanghai", 1, b, 7, 6)
	stable(no) // one op of shanghai's is not here
	own[b] = 6
	stable("map[1:3 2:4] true")
	silent = "chengdu"
	stable(no)
	silent = ""
	m.Ack("shanghai", 2, a, 7, 0) // it has lost its disks
	stable("map[1:0 2:0] true")
	if v, ok := m.Stable(&ending{have: own}, others, 8, 5, heard); ok {
		t.Errorf("of a partition of which nobody has said anything: %v", v)
	}
	others = nil
	stable("map[1:9 2:6] true")
}

func TestCaughtUp(t *testing.T) {
	var m Matrix
	a, b := crdt.OriginID(1), crdt.OriginID(2)
	v := crdt.Vector{a: 3, b: 5}
	if m.CaughtUp([]string{"shanghai"}, 7, v, nil) || !m.CaughtUp(nil, 7, v, nil) {
		t.Error("of nobody is known that it has something, and where there is nobody all have it")
	}
	m.Ack("shanghai", 1, a, 7, 3)
	m.Ack("shanghai", 1, b, 7, 4)
	if m.CaughtUp([]string{"shanghai"}, 7, v, nil) {
		t.Error("one op is missing")
	}
	m.Ack("shanghai", 1, b, 7, 9)
	m.Ack("chengdu", 1, a, 7, 3)
	if !m.CaughtUp([]string{"shanghai"}, 7, v, nil) || m.CaughtUp([]string{"shanghai", "chengdu"}, 7, v, nil) || m.CaughtUp([]string{"shanghai"}, 8, v, nil) {
		t.Error("shanghai has all of it, chengdu has not, and nobody anything of another partition")
	}
}

// TestStableAfterEvictions: once a region was given up, away or back, it may number before it has what the others have.
func TestStableAfterEvictions(t *testing.T) {
	var m Matrix
	e := &ending{have: crdt.Vector{is.ID(): 4}, origins: []crdt.Origin{is}}
	stable := func(want bool, why string) {
		t.Helper()
		if _, ok := m.Stable(e, nil, 7, 5, nil); ok != want {
			t.Errorf("%s: stable is %t", why, ok)
		}
	}
	stable(true, "nobody was given up")
	e.evicted, e.finals = crdt.Evictions{"chengdu": {Bound: 2}}, crdt.Finals{gone.ID(): 0}
	stable(false, "one was, and all is closed")
	e.evicted["chengdu"] = crdt.Eviction{Bound: 2, Back: 9}
	stable(false, "it is back")
}
