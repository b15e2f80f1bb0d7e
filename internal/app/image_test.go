package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/roamsync/roam/internal/image"
	"github.com/roamsync/roam/internal/memnet"
)

// trio is beijing of three nodes, n1 to n3, beside shanghai of one: of beijing's nodes disks are put back.
type trio struct {
	*world
	t      *testing.T
	groups int
	redis  string
	dirs   map[string]string
	stops  map[string]func()
	later  map[string]time.Duration // by how much the node's clock is ahead: its image was taken so long ago
	at     map[string]string        // where nodes gossip, once they have: they find each other also while shanghai is cut off
	seen   numbers
}

func newTrio(t *testing.T, groups int) *trio {
	w := newWorld(t, "shanghai")
	x := &trio{
		world: w, t: t, groups: groups, redis: "redis://" + miniredis.RunT(t).Addr(), dirs: map[string]string{}, stops: map[string]func(){},
		later: map[string]time.Duration{}, at: map[string]string{}, seen: numbers{},
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		x.dirs[n] = t.TempDir()
	}
	x.up("n1", "n2", "n3")
	x.until("shanghai follows", func() bool { return len(w.nodes["shanghai"].region.Origins()) > 0 })
	return x
}

func (x *trio) optionsOf(name string) ServeOptions {
	o := x.options("beijing", x.dirs[name])
	o.Node, o.BootstrapExpect, o.Redis, o.Worker, o.ClockOffset = name, 3, x.redis, "", x.later[name]
	o.Groups = x.groups
	for who, addr := range x.at {
		if o.Join = append(o.Join, addr); who == name {
			o.ClusterAddr = addr
		}
	}
	return o
}

// up starts nodes, and returns when all are ready.
func (x *trio) up(names ...string) {
	x.t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, name := range names {
		o := x.optionsOf(name)
		all.Go(func() {
			n, stop, err := x.begin(o)
			if err != nil {
				x.t.Errorf("%s: %v", name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			x.nodes[name], x.stops[name], x.at[name] = n, stop, n.opts.ClusterAddr
		})
	}
	all.Wait()
	if x.t.Failed() {
		x.t.FailNow()
	}
}

// begin runs a node until stop, or the end of the test. It returns when the node is ready, or why it has ended.
func (x *trio) begin(o ServeOptions) (_ *node, stop func(), err error) {
	n, err := newNode(o, x.ring, emulated(x.net, o.Region), newLogger(x.t.Output(), "warn"))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.run(ctx, func() { close(up) }) }()
	var once sync.Once
	end := func(err error) error {
		once.Do(func() {
			cancel()
			if err == nil {
				err = <-done
			}
			n.killed.Store(true)
			n.close()
		})
		return err
	}
	select {
	case <-up:
	case err := <-done:
		return nil, nil, end(errors.Join(errEnded, err))
	}
	stop = func() {
		n.killed.Store(true)
		if err := end(nil); err != nil {
			x.t.Errorf("%s: %v", o.Node, err)
		}
	}
	x.t.Cleanup(stop)
	return n, stop, nil
}

var errEnded = errors.New("the node has ended by itself")

// down ends nodes without a drain.
func (x *trio) down(names ...string) {
	x.t.Helper()
	for _, name := range names {
		x.stops[name]()
		delete(x.nodes, name)
	}
}

// imageOf copies the file system of a node that is down.
func (x *trio) imageOf(name string) string {
	x.t.Helper()
	to := filepath.Join(x.t.TempDir(), name)
	if err := image.Copy(to, x.dirs[name]); err != nil {
		x.t.Fatal(err)
	}
	return to
}

// copyOf copies the files of a node that is down.
func (x *trio) copyOf(name string) string {
	x.t.Helper()
	to := filepath.Join(x.t.TempDir(), name)
	if err := os.CopyFS(to, os.DirFS(x.dirs[name])); err != nil {
		x.t.Fatal(err)
	}
	return to
}

func (x *trio) puts(at, oid string, n int) {
	x.t.Helper()
	for i := range n {
		x.put(at, fmt.Sprintf("%s%d", oid, i))
	}
	x.look(x.seen)
}

// TestFenceOfSeveral: of three nodes one is put back to before what it and the leader had committed, and the leader is lost. The two that are left
// number nothing that the others know as something else; what was forgotten comes back; and the leader of before, which holds what the region
// went on without, starts empty.
func TestFenceOfSeveral(t *testing.T) {
	t.Parallel() // it waits, mostly
	for _, groups := range []int{1, 4} {
		t.Run(fmt.Sprintf("groups=%d", groups), func(t *testing.T) {
			t.Parallel() // they wait, mostly
			x := newTrio(t, groups)
			fenceOfSeveral(x, x.imageOf, 2*time.Minute)
		})
	}
	t.Run("groups=4, a copy that is put back at once", func(t *testing.T) {
		t.Parallel() // they wait, mostly
		x := newTrio(t, 4)
		fenceOfSeveral(x, x.copyOf, 0)
	})
}

func fenceOfSeveral(x *trio, imageOf func(string) string, later time.Duration) {
	t := x.t
	x.put("n1", "first")
	x.until("all have it", func() bool { return x.has("n2", "first") && x.has("n3", "first") && x.has("shanghai", "first") })
	x.down("n2")
	old := imageOf("n2")
	x.up("n2")
	x.down("n3")
	x.puts("n1", "both", 5)
	x.until("shanghai has it", func() bool { return x.has("shanghai", "both4") })
	x.net.CutBoth("beijing", "shanghai", memnet.Break)
	x.puts("n1", "alone", 5)
	x.down("n2", "n1")

	x.dirs["n2"], x.later["n2"] = old, later
	x.up("n2", "n3")
	x.puts("n3", "anew", 8)
	x.net.CutBoth("beijing", "shanghai", memnet.Open)
	x.until("all is everywhere", func() bool { return x.has("n2", "both4") && x.has("n3", "both4") && x.has("shanghai", "anew7") })
	x.equal()
	x.look(x.seen)

	if _, _, err := x.begin(x.optionsOf("n1")); err == nil || !strings.Contains(err.Error(), "goes on without entry") {
		t.Fatalf("n1 came back as it was: %v", err)
	}
	x.up("n1")
	if kept, err := filepath.Glob(filepath.Join(x.dirs["n1"], "astray-*", "state", "*.sst")); err != nil || len(kept) == 0 {
		t.Errorf("what n1 had is gone: %v, %v", kept, err)
	}
	x.until("n1 has all", func() bool { return x.has("n1", "both4") && x.has("n1", "anew7") })
	x.equal()
	x.look(x.seen)
}
