package region

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// TestRecover: of three nodes two are lost with their disks. The third is made the region, under a new incarnation and another
// raft id; two empty nodes join it, and all have what it had.
func TestRecover(t *testing.T) {
	for _, groups := range []int{1, 4} {
		t.Run(fmt.Sprint(groups), func(t *testing.T) {
			var said lines
			c := newCluster(t, 3, func(cfg *Config) { cfg.Groups, cfg.Logger = groups, slog.New(slog.NewTextHandler(&said, nil)) })
			if !said.has(`why="first start"`) || said.has("recovered") {
				t.Error("a first start says that it is another")
			}
			first := c.node("n1")
			first.putMany(t, "a", 100)
			if got := c.equal(); got != 100 {
				t.Fatalf("%d ops, want 100", got)
			}
			lost, id := first.Origins(), first.ID()
			for _, name := range []string{"n3", "n2", "n1"} {
				c.node(name).halt()
			}
			c.nodes = map[string]*clusterNode{}
			cfg := Config{Region: "beijing", Node: "n1", Dir: first.dir}
			for range 2 { // twice is once
				if got, err := Recover(cfg); err != nil || got.ID == id || got.Groups != groups {
					t.Fatalf("recovered %+v, %v", got, err)
				}
			}
			c.start("n1", first.dir, 3)
			n1 := c.node("n1")
			if !said.has("restored from a backup, or recovered") {
				t.Error("nobody is told why there is a new incarnation")
			}
			for _, o := range lost {
				for _, g := range n1.all() {
					if g.fsm.Self() == o {
						t.Errorf("group %d issues as %s again", g.n, o)
					}
				}
			}
			n1.putMany(t, "b", 100)
			c.start("n2", t.TempDir(), 3)
			c.start("n3", t.TempDir(), 3)
			c.node("n3").putMany(t, "c", 100)
			if got := c.equal(); got != 300 {
				t.Errorf("%d ops, want 300", got)
			}
		})
	}
}

// TestRecoverReplays: what is in the log and not in the state is applied, before the new incarnation.
func TestRecoverReplays(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("a", "text"))
	older := t.TempDir()
	s.stop()
	if err := os.CopyFS(older+"/state", os.DirFS(dir+"/state")); err != nil {
		t.Fatal(err)
	}
	s = start(t, "beijing", dir)
	for i := range 10 {
		s.put(t, "alice/trip", msg(fmt.Sprint(i), "text"))
	}
	s.stop()
	if err := errors.Join(os.RemoveAll(dir+"/state"), os.Rename(older+"/state", dir+"/state")); err != nil {
		t.Fatal(err)
	}
	got, err := Recover(Config{Region: "beijing", Node: "n1", Dir: dir})
	if err != nil || got.Replayed < 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	s = start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("after", "text"))
	if d, err := s.Digest(crdt.PartitionOf("alice/trip")); err != nil || d != s.recomputed(t, crdt.PartitionOf("alice/trip")) {
		t.Error(d, err)
	}
	ops := uint64(0)
	for _, f := range s.Cursors(crdt.PartitionOf("alice/trip")) {
		ops += f
	}
	if ops != 12 {
		t.Errorf("%d ops, want 12", ops)
	}
}

// TestRecoverRefuses: there must be something to recover, of this node; and what was left half done does not start.
func TestRecoverRefuses(t *testing.T) {
	empty := t.TempDir()
	if _, err := Recover(Config{Region: "beijing", Node: "n1", Dir: empty}); err == nil || !strings.Contains(err.Error(), "no state") {
		t.Errorf("an empty directory: %v", err)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("a", "text"))
	s.stop()
	if _, err := Recover(Config{Region: "beijing", Node: "n2", Dir: dir}); err == nil || !strings.Contains(err.Error(), "belongs to node beijing/n1") {
		t.Errorf("another node's directory: %v", err)
	}
	cfg := Config{Region: "beijing", Node: "n1", Dir: dir}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	half := prepare(cfg)
	if err := half.openState(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(half.db.Set(machine.NodeKey(nodePending), []byte("recover"), pebble.NoSync), half.release()); err != nil {
		t.Fatal(err)
	}
	if r, err := New(Config{Region: "beijing", Node: "n1", Dir: dir}); err == nil || !strings.Contains(err.Error(), "roam recover was cut short") {
		if err == nil {
			r.Close()
		}
		t.Errorf("half done: %v", err)
	}
	if _, err := Recover(Config{Region: "beijing", Node: "n1", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	s = start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("b", "text"))
}

// TestForgotten: a node of a group that is no more says so, once, when its region has gone on without it for a while.
func TestForgotten(t *testing.T) {
	var f forgotten
	now := time.Now()
	for i, c := range []struct {
		after time.Duration
		so    bool
		want  bool
	}{
		{0, true, false}, {forgottenAfter - 1, true, false}, {forgottenAfter - 1, false, false}, {forgottenAfter, true, false},
		{2*forgottenAfter - 1, true, false}, {2 * forgottenAfter, true, true}, {3 * forgottenAfter, true, false},
	} {
		if got := f.due(now.Add(c.after), c.so); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}

	var said lines
	c := newCluster(t, 3, func(cfg *Config) {
		if cfg.Node == "n3" {
			cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
		}
	})
	c.equal()
	dirs := map[string]string{"n1": c.node("n1").dir, "n3": c.node("n3").dir}
	for _, name := range []string{"n1", "n2", "n3"} {
		c.node(name).halt()
	}
	c.nodes = map[string]*clusterNode{}
	if _, err := Recover(Config{Region: "beijing", Node: "n1", Dir: dirs["n1"]}); err != nil {
		t.Fatal(err)
	}
	c.start("n1", dirs["n1"], 3)
	if n := c.launch("n3", dirs["n3"], 3); n == nil {
		t.Fatal("it does not start")
	}
	c.until("the node of before says that its group is no more", func() bool { return said.has("goes on without this node") })
}

// lines is what was logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), s)
}
