package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// harm is something that happens to one node of a region, and ends with the node in service again.
type harm struct {
	name string
	do   func(s *site, rnd *rand.Rand) error
}

// harms are all kinds. A node that is replaced comes back without its disk.
var harms = []harm{
	{"kill", func(s *site, _ *rand.Rand) error { s.crash(); return s.restart() }},
	{"pause", func(s *site, rnd *rand.Rand) error {
		s.freeze()
		<-time.After(time.Second + time.Duration(rnd.Int64N(int64(4*time.Second))))
		s.thaw()
		return nil
	}},
	{"restart", func(s *site, _ *rand.Rand) error {
		s.serve.signal(syscall.SIGTERM)
		code, err := s.serve.exit(patience)
		if code != 0 {
			err = errors.Join(err, fmt.Errorf("%s: exit status %d", s.node, code))
		}
		return errors.Join(err, s.restart())
	}},
	{"replace", func(s *site, _ *rand.Rand) error {
		s.crash()
		return errors.Join(os.RemoveAll(s.data), s.restart())
	}},
}

// chaosFor is how long TestChaos goes on.
func chaosFor(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("E2E_CHAOS")
	if s == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(s)
	must(t, err)
	return d
}

// TestChaos kills, pauses, restarts and replaces nodes of a region of three, one after the other and at random, while clients talk at
// all of them: what was acknowledged is there once, on every node, and the nodes' digests are equal.
func TestChaos(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	how := talks{clients: 30, rest: 300 * time.Millisecond, within: time.Second, handshake: 500 * time.Millisecond, diary: &diary{}}
	if os.Getenv("E2E_CHAOS") != "" {
		how.clients = 200
	}
	end := crowd(t, "hana", list, how)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	done := map[string]int{}
	var failed error
	for until := time.Now().Add(chaosFor(t)); failed == nil && time.Now().Before(until); {
		h, s := harms[rnd.IntN(len(harms))], list[rnd.IntN(len(list))]
		done[h.name]++
		t.Logf("%s %s", h.name, s.node)
		how.diary.note("%s %s (%s leads)", h.name, s.node, leading(list))
		if failed = h.do(s, rnd); failed == nil {
			how.diary.note("%s is in service", s.node)
			failed = wholeAgain(list)
			how.diary.note("whole again")
		}
	}
	end(failed)
	t.Logf("%v, %d incarnations", done, incarnations(t, list[0]))
}

// wholeAgain waits until three nodes vote, one of them leads, and all have what the others have, or nearly: then the region stands
// the loss of a node again.
func wholeAgain(list []*site) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	why := ""
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if why = notWhole(list); why == "" {
			return nil
		}
	}
	return fmt.Errorf("not whole again after %v: %s", patience, why)
}

func notWhole(list []*site) string {
	leads := 0
	for _, s := range list {
		st, err := s.status()
		if err != nil {
			return err.Error()
		}
		if st.Raft.Leads {
			leads++
		}
		var roles []string
		for _, n := range st.Raft.Nodes {
			roles = append(roles, n.Role)
		}
		if all := strings.Join(roles, " "); len(roles) != len(list) || strings.Count(all, "voter")+strings.Count(all, "leader") != len(list) {
			return fmt.Sprintf("%s knows of %q", s.node, all)
		}
	}
	if leads != 1 {
		return fmt.Sprintf("%d nodes lead", leads)
	}
	return ""
}

// leading is the node that says that it leads.
func leading(list []*site) string {
	for _, s := range list {
		if st, err := s.status(); err == nil && st.Raft.Leads {
			return s.node
		}
	}
	return "nobody"
}
