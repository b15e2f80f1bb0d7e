package region

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsync/roam/crdt"
)

// TestRebuild: a node that is to begin anew ends, puts its state aside when it is started, wherever that is cut short, and keeps it until it is taken in.
// That happens once for an origin.
func TestRebuild(t *testing.T) {
	t.Parallel() // it waits, mostly
	p := crdt.PartitionOf("alice/trip")
	for name, cut := range map[string]func(dir string) error{
		"in order": func(string) error { return nil },
		"cut short before the log is moved": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, asideDir), 0o755), os.Rename(filepath.Join(dir, "state"), filepath.Join(dir, asideDir, "state")))
		},
		"cut short before the mark is moved": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, asideDir), 0o755), os.Rename(filepath.Join(dir, "state"), filepath.Join(dir, asideDir, "state")),
				os.Rename(filepath.Join(dir, "raft"), filepath.Join(dir, asideDir, "raft")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, "beijing", dir)
			s.put(t, "alice/trip", msg("a", "text"))
			forked := s.Self()
			for range 2 { // who finds it out again says so again
				if err := s.Rebuild(forked, "shanghai"); err != nil {
					t.Fatal(err)
				}
			}
			<-s.Failed()
			if err := s.end(); !errors.Is(err, ErrForked) {
				t.Fatal(err)
			}
			if _, err := Recover(Config{Region: "beijing", Node: "n1", Dir: dir}); err == nil || !strings.Contains(err.Error(), "begin anew") {
				t.Errorf("recover: %v", err)
			}
			if err := cut(dir); err != nil {
				t.Fatal(err)
			}
			s = start(t, "beijing", dir)
			a := s.Aside()
			if a == nil || a.Peer != "shanghai" || s.Self() == forked || len(s.Cursors(p)) != 0 {
				t.Fatalf("aside is %+v, it numbers under %s and holds %v", a, s.Self(), s.Cursors(p))
			}
			if err := s.Rebuild(s.Self(), "shanghai"); err == nil || !strings.Contains(err.Error(), "not taken in yet") {
				t.Errorf("while something is aside: %v", err)
			}
			f, err := OpenFound(a.Dir, filepath.Join(t.TempDir(), "work"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if f.Of(p).Cursors(p)[forked.ID()] != 1 {
				t.Errorf("aside is %v", f.Of(p).Cursors(p))
			}
			if err := errors.Join(f.Close(), s.TakenIn(a)); err != nil || s.Aside() != nil {
				t.Error(err, s.Aside())
			}
			if err := s.Rebuild(forked, "shanghai"); err == nil || !strings.Contains(err.Error(), "before") {
				t.Errorf("once more for the same origin: %v", err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*orked*")); err != nil || len(left) > 0 {
				t.Errorf("it leaves %v, %v", left, err)
			}
		})
	}
}

// TestRebuildIsOfOneNode: a region of several does not begin anew by itself.
func TestRebuildIsOfOneNode(t *testing.T) {
	c := newCluster(t, 3, nil)
	n := c.node("n1")
	if err := n.Rebuild(n.Self(), "shanghai"); err == nil || !strings.Contains(err.Error(), "one node") {
		t.Error(err)
	}
}
