package region

import (
	"fmt"
	"testing"
)

// TestLeaps: a process leaps once, further than it has come, and each for itself; what is remembered is bounded.
func TestLeaps(t *testing.T) {
	var l leaps
	mine, other := l.beyond("", 7), l.beyond("n2/x", 7)
	if mine <= 7 || other <= 7 || mine > 8+leapRange || mine == other {
		t.Errorf("from 7 to %d and %d", mine, other)
	}
	if got := l.beyond("", mine+3); got != mine {
		t.Errorf("it leaps again, to %d", got)
	}
	if got := l.beyond("n2/y", 7); got == other {
		t.Errorf("another process of n2 counts as the one before, at %d", got)
	}
	for i := range 3 * leapsKept {
		l.beyond(fmt.Sprint(i), 7)
	}
	if len(l.to) > leapsKept {
		t.Errorf("%d are remembered", len(l.to))
	}
}

// TestLeapsInAnElection: where all are proven terms go on by one; a node whose process has just begun, and is needed, has them leap, once.
func TestLeapsInAnElection(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.equal()
	first := c.node("n1").all()[0].raft.CurrentTerm()
	if first > 100 {
		t.Errorf("a region that was founded is in term %d", first)
	}
	lead := c.leader()
	c.node(lead).halt()
	lead = c.leader()
	g := c.node(lead).all()[0]
	term := g.raft.CurrentTerm()
	if term > 100 {
		t.Errorf("without its leader it is in term %d", term)
	}
	c.until("both are proven", func() bool {
		for _, name := range []string{"n1", "n2", "n3"} {
			if n := c.node(name); n.member.Alive && !n.all()[0].proof.holds() {
				return false
			}
		}
		return true
	})
	for _, name := range []string{"n1", "n2", "n3"} {
		if n := c.node(name); n.member.Alive && name != lead {
			to := g.leap(n.ID(), term)
			if to != 0 {
				t.Errorf("for the vote of a node that is proven it leaps to %d", to)
			}
			n.all()[0].proof.lose()
			if to = g.leap(n.ID(), term); to <= term {
				t.Errorf("for the vote of one that is not it does not leap: %d", to)
			}
		}
	}
	if g.proof.lose(); g.leaps.to[""] != 0 || g.leap("nobody", term) <= term {
		t.Error("it does not leap for itself")
	}
}
