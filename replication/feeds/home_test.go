package feeds

import (
	"fmt"
	"testing"

	"github.com/roamsync/roam/crdt"
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
