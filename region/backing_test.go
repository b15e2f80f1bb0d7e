package region

import (
	"fmt"
	"math/bits"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/region/machine"
)

// moment is a region of n nodes, a bit each, that has committed something in term 1, and elects somebody in term 2.
type moment struct {
	n                             int
	acked, has, proven, up, votes int
	leader                        int
}

func (m moment) is(set, node int) bool { return set>>node&1 == 1 }

// backing counts who backs the leader, by what the product asks each of them. Who has what the leader lacks can have voted for somebody else
// only; it loses that when it follows, and is not proven then.
func (m moment) backing() (n int) {
	for i := range m.n {
		s := stance{term: 2, proven: m.is(m.proven, i)}
		switch {
		case !m.is(m.up, i):
			continue
		case m.is(m.votes, i):
			s.voted = vote{2, "leader", s.proven}
		default:
			s.leader, s.last = "leader", 2
			s.proven = s.proven && (!m.is(m.has, i) || m.is(m.has, m.leader))
		}
		if s.backs("leader") {
			n++
		}
	}
	return n
}

// possible reports whether Raft elects the leader: by a majority, each of which has no more than it has.
func (m moment) possible() bool {
	all := m.votes&^m.up == 0 && m.is(m.votes, m.leader) && 2*bits.OnesCount(uint(m.votes)) > m.n
	return all && (m.is(m.has, m.leader) || m.votes&m.has == 0)
}

// moments are all of n nodes. Who has acknowledged something has it, unless its disk was put back: then it is not proven. Who has not may have it
// all the same. Whoever is down is lost, or cut off.
func moments(n int, each func(m moment)) {
	sets := 1 << n
	for acked := range sets {
		if 2*bits.OnesCount(uint(acked)) <= n {
			continue
		}
		for has := range sets {
			for proven := range sets {
				if proven&acked&^has != 0 {
					continue
				}
				for up := range sets {
					for votes := up; votes > 0; votes = (votes - 1) & up {
						for leader := range n {
							if m := (moment{n, acked, has, proven, up, votes, leader}); m.possible() {
								each(m)
							}
						}
					}
				}
			}
		}
	}
}

// TestBacked: in all states of one, three and five nodes, a leader that is backed has what was committed; and where no process has just begun, it is
// backed. That one other node that is proven was enough, as it once was, is found to be wrong.
func TestBacked(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		seen, once := 0, 0
		moments(n, func(m moment) {
			seen++
			lacks, backed := !m.is(m.has, m.leader), machine.Backed(m.backing(), m.n)
			if backed && lacks {
				t.Fatalf("it goes on without what was committed: %+v", m)
			}
			if !backed && !lacks && m.votes&^m.proven == 0 {
				t.Fatalf("nothing is forgotten, and it does not go on: %+v", m)
			}
			if lacks && m.up&m.proven != 0 {
				once++
			}
		})
		t.Logf("%d nodes: %d states, in %d of which one proven node was not enough", n, seen, once)
		if seen == 0 || (once == 0) != (n == 1) {
			t.Errorf("%d nodes: %d states, %d", n, seen, once)
		}
	}
}

// TestStance: an answer is for the term in which the asker leads, and whom the node follows in it.
func TestStance(t *testing.T) {
	for _, c := range []struct {
		s    stance
		want bool
	}{
		{stance{term: 7, voted: vote{7, "a", true}}, true},
		{stance{term: 7, voted: vote{7, "a", false}}, false}, // its process had just begun
		{stance{term: 7, voted: vote{6, "a", true}}, false},
		{stance{term: 7, voted: vote{7, "b", true}}, false},
		{stance{term: 7, voted: vote{7, "b", true}, leader: "a", last: 7, proven: true}, true}, // it has lost, and follows
		{stance{term: 7, leader: "a", last: 7}, false},
		{stance{term: 7, leader: "a", last: 6, proven: true}, false}, // it may have more than the leader
		{stance{term: 7, leader: "b", last: 7, proven: true}, false},
		{stance{}, false},
	} {
		if got := c.s.backs("a"); got != c.want {
			t.Errorf("%+v: %v", c.s, got)
		}
	}
}

// TestProof: what is lost between the question and the answer stays lost.
func TestProof(t *testing.T) {
	var p proof
	since := p.since()
	p.lose()
	if p.give(since); p.holds() {
		t.Error("proven by what it has lost since")
	}
	p.give(p.since())
	if !p.holds() {
		t.Error("not proven")
	}
	p.lose()
	if p.holds() {
		t.Error("proven although the end of its log is gone")
	}
}

// TestCutBack: that the beginning of a log goes costs nothing, its end the proof.
func TestCutBack(t *testing.T) {
	cut := ""
	s := &stallWatch{
		LogStore: raft.NewInmemStore(), limit: 1 << 40, fail: func(err error) { t.Error(err) }, metrics: newMetrics(prometheus.NewRegistry()),
		cutBack: func(from uint64, all bool) { cut += fmt.Sprint(from, all, " ") },
	}
	for i := range uint64(9) {
		if err := s.StoreLog(&raft.Log{Index: i + 1, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		lo, hi uint64
		want   string
	}{{1, 3, ""}, {8, 9, "8 false "}, {4, 7, "4 true "}} {
		cut = ""
		if err := s.DeleteRange(c.lo, c.hi); err != nil || cut != c.want {
			t.Errorf("%d to %d: %q, %v", c.lo, c.hi, cut, err)
		}
	}
}
