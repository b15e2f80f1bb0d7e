package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// tell runs one of roam's commands against a node until it works, and returns what it says.
func tell(s *site, words ...string) (string, error) {
	var out bytes.Buffer
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		out.Reset()
		cmd := exec.Command(binary, append(words, "--admin", s.admin)...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err = cmd.Run(); err == nil {
			return out.String(), nil
		}
	}
	return out.String(), fmt.Errorf("roam %s: %w: %s", strings.Join(words, " "), err, out.String())
}

// voting waits until so many nodes vote, and nothing is pending.
func voting(s *site, n int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var st nodeStatus
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		var err error
		if st, err = s.status(); err != nil {
			return err
		}
		votes := 0
		for _, node := range st.Raft.Nodes {
			if node.Role == "leader" || node.Role == "voter" {
				votes++
			}
		}
		if votes == n && st.Raft.Size == n && len(st.Raft.Pending) == 0 {
			return nil
		}
	}
	return fmt.Errorf("after %v it is not so that %d vote: %+v", patience, n, st.Raft)
}

// TestGrowAndShrink makes a region of one node one of three, of five and of three again, while clients talk. Those that leave end
// by themselves.
func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	for _, groups := range []string{"1", "4"} {
		t.Run(groups, func(t *testing.T) {
			t.Parallel()
			list := nodesOf(t, "beijing", 5)
			for i, s := range list {
				s.extra = []string{"--bootstrap-expect", "0"}
				if i == 0 {
					s.extra = []string{"--bootstrap-expect", "1", "--groups", groups}
				}
			}
			must(t, errors.Join(list[0].startRedis(), list[0].startWorker(), list[0].startServe(), list[0].ready()))
			grow(t, list, "ines"+groups)
		})
	}
}

func grow(t *testing.T, list []*site, name string) {
	t.Helper()
	end := crowdAt(t, name, list[:3], list[:1], talks{clients: 3, rest: 10 * time.Millisecond})
	var errs []error
	resize := func(size string, n int) {
		_, err := tell(list[1], "resize", size)
		errs = append(errs, err, voting(list[0], n))
	}
	for _, s := range list[1:3] {
		errs = append(errs, s.restart())
	}
	resize("3", 3)
	for _, s := range list[3:] {
		errs = append(errs, s.restart())
	}
	resize("5", 5)
	_, err := tell(list[3], "resize", "3")
	errs = append(errs, err, voting(list[4], 3))
	for _, s := range list[3:] {
		_, err := tell(list[0], "leave", "--node", s.node)
		code, ended := s.serve.exit(patience)
		if code != 0 {
			err = errors.Join(err, fmt.Errorf("%s: exit status %d", s.node, code))
		}
		errs = append(errs, err, ended)
	}
	errs = append(errs, voting(list[0], 3))
	end(errors.Join(errs...))
	list[0].crash() // the founder is one of three now
	d := user(t, name, "after")
	must(t, d.connect(list[1], name+"/after"))
	must(t, d.put(name+"/after", msg("a", "kept")))
}

// TestSecondNodeFounds: a node that was told to found a region of one, beside one that there is, says what to do, and ends. Nothing of it
// is taken into the region.
func TestSecondNodeFounds(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 2)
	for _, s := range list {
		s.extra = nil
	}
	must(t, errors.Join(list[0].startRedis(), list[0].startServe(), list[0].ready(), list[1].startServe()))
	if code, err := list[1].serve.exit(patience); code == 0 || err != nil || !strings.Contains(list[1].serve.errout.tail(), "--bootstrap-expect 0") {
		t.Errorf("status %d, %v: %s", code, err, list[1].serve.errout.tail())
	}
	must(t, voting(list[0], 1))
}
