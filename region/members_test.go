package region

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/image"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// soon is for tests that do not wait for an operator to change his mind, nor for a dead node.
func soon(groups int) func(*Config) {
	return func(cfg *Config) {
		cfg.Groups, cfg.levelQuiet, cfg.lostAfter = groups, time.Millisecond, 300*time.Millisecond
		cfg.CommitDeadline = 2 * time.Second
		cfg.SnapshotEntries, cfg.TrailingEntries = 50, 20
	}
}

// writer puts one message after the other, at whichever node takes it, until stop.
type writer struct {
	c       *cluster
	session string
	acked   int
	done    chan struct{}
	quit    context.CancelFunc
}

func (c *cluster) write(session string) *writer {
	ctx, quit := context.WithCancel(context.Background())
	w := &writer{c: c, session: session, done: make(chan struct{}), quit: quit}
	go func() {
		defer close(w.done)
		for i := 0; ctx.Err() == nil; i++ {
			for turn := i; !w.put(turn, fmt.Sprintf("%s-%d", session, i)) && !c.t.Failed(); turn++ {
				pause(context.Background(), 10*time.Millisecond)
			}
			w.acked++
			pause(ctx, 5*time.Millisecond)
		}
	}()
	c.t.Cleanup(func() { w.stop() }) // before the nodes are halted, also if the test fails
	return w
}

// live are the nodes that run.
func (c *cluster) live() (all []*clusterNode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range 9 {
		if n := c.nodes[fmt.Sprintf("n%d", i+1)]; n != nil && n.member.Alive {
			all = append(all, n)
		}
	}
	return all
}

func (w *writer) put(turn int, oid string) bool {
	live := w.c.live()
	if len(live) == 0 { // the test has failed, and halts them
		return false
	}
	n := live[turn%len(live)]
	const tag = 1 << 40
	took, failed := make(chan struct{}, 1), make(chan error, 1)
	stop := n.Watch(func(evs []wire.Event) {
		for _, e := range evs {
			if e.Tag == tag && len(e.Placed) > 0 && e.Placed[0].OID == oid && e.Refused == nil { // not one that was tried again before
				select {
				case took <- struct{}{}:
				default:
				}
			}
		}
	})
	defer stop()
	err := n.Submit(&wire.Put{Session: w.session, Ops: []*crdt.Op{msg2(w.session, oid)}, Tag: tag, Fail: func(err error) { failed <- err }})
	if err != nil {
		return false
	}
	select {
	case <-took:
		return true
	case <-failed:
	case <-time.After(3 * time.Second): // the node was halted
	}
	return false
}

func (w *writer) stop() int {
	w.quit()
	<-w.done
	return w.acked
}

// votes waits until just these nodes vote, in all groups, as all of them see it.
func (c *cluster) votes(names ...string) {
	c.t.Helper()
	for _, name := range names {
		for g := range c.node(name).all() {
			c.until(fmt.Sprintf("in group %d just %v vote, as %s sees it", g, names, name), func() bool {
				votes := 0
				for id, v := range c.node(name).all()[g].votes() {
					if v {
						votes++
						if !strings.Contains(strings.Join(names, " "), nodeOfID(id)) {
							return false
						}
					}
				}
				return votes == len(names)
			})
		}
	}
}

// gone waits until a node is in no group any more.
func (c *cluster) gone(by, id string) {
	c.t.Helper()
	c.until(id+" is in no group", func() bool {
		for _, g := range c.node(by).all() {
			if g.has(id) {
				return false
			}
		}
		return true
	})
}

func (c *cluster) resize(by string, size int) {
	c.t.Helper()
	c.until(fmt.Sprintf("%d nodes are to vote", size), func() bool {
		_, err := c.node(by).Resize(c.t.Context(), size)
		return err == nil
	})
}

// leave has a live node leave, and ends its process.
func (c *cluster) leave(by, name string) {
	c.t.Helper()
	c.until(name+" is to leave", func() bool {
		_, err := c.node(by).Leave(c.t.Context(), name, false)
		return err == nil
	})
	n := c.node(name)
	c.until(name+" has left", func() bool {
		select {
		case <-n.Left():
			return true
		default:
			return false
		}
	})
	n.halt()
	c.gone(by, n.id)
}

// holds checks that all live nodes have what was acknowledged, and nothing twice.
func (c *cluster) holds(acked int) {
	c.t.Helper()
	if got := c.equal(); got != uint64(acked) {
		c.t.Errorf("the nodes hold %d ops, %d were acknowledged", got, acked)
	}
	for _, n := range c.live() {
		for p := range uint8(crdt.Partitions) {
			if d, err := n.Digest(p); err != nil || d != n.started.recomputed(c.t, p) {
				c.t.Errorf("%s: digest of partition %d is not of what it holds (%v)", n.id, p, err)
			}
		}
	}
}

func TestGrowAndShrink(t *testing.T) {
	for _, groups := range []int{1, 4} {
		t.Run(fmt.Sprint(groups), func(t *testing.T) {
			c := newCluster(t, 1, soon(groups))
			a, b := c.write("alice/a"), c.write("alice/b")
			self := c.node("n1").Self()
			c.start("n2", t.TempDir(), 0)
			c.start("n3", t.TempDir(), 0)
			c.resize("n2", 3)
			c.votes("n1", "n2", "n3")
			c.start("n4", t.TempDir(), 0)
			c.start("n5", t.TempDir(), 0)
			c.resize("n1", 5)
			c.votes("n1", "n2", "n3", "n4", "n5")
			c.resize("n4", 3)
			c.votes("n1", "n2", "n3")
			c.leave("n1", "n5")
			c.leave("n2", "n4")
			c.leave("n2", "n1") // the founder
			c.votes("n2", "n3")
			if s := c.node("n2").Status(t.Context()); len(s.Nodes) != 2 {
				t.Errorf("who has left is shown for ever: %+v", s.Nodes)
			}
			c.resize("n3", 1)
			c.votes("n2")
			acked := a.stop() + b.stop()
			c.holds(acked)
			n2 := c.node("n2")
			if n2.Self() != self {
				t.Errorf("it issues as %s, and began as %s", n2.Self(), self)
			}
			c.leave("n2", "n3")
			n2.halt()
			c.start("n2", n2.dir, 0)
			if got := c.node("n2").Self(); got != self || !c.node("n2").Alone() {
				t.Errorf("after a restart in order it issues as %s, alone: %v", got, c.node("n2").Alone())
			}
			c.holds(acked)
		})
	}
}

// TestReplacedUnderAnotherName: a node that is dead for long loses its vote to one that has caught up. It follows when it comes back.
func TestReplacedUnderAnotherName(t *testing.T) {
	for _, groups := range []int{1, 4} {
		t.Run(fmt.Sprint(groups), func(t *testing.T) {
			c := newCluster(t, 3, soon(groups))
			w := c.write("alice/a")
			dead := c.node("n2")
			dead.halt()
			c.start("n4", t.TempDir(), 0)
			c.gone("n1", dead.id)
			c.votes("n1", "n3", "n4")
			c.start("n2", dead.dir, 3)
			if c.node("n2").id != dead.id {
				t.Error("it is another one")
			}
			c.votes("n1", "n3", "n4")
			c.leave("n4", "n2")
			c.holds(w.stop())
		})
	}
}

// TestLeave: a dead node can be told to leave, and hears it when it comes back; a majority is kept, unless forced.
func TestLeave(t *testing.T) {
	c := newCluster(t, 3, func(cfg *Config) {
		soon(1)(cfg)
		cfg.lostAfter = time.Hour
	})
	w := c.write("alice/a")
	c.resize("n1", 3) // the feature level is there
	dead := c.node("n3")
	dead.halt()
	c.leader()
	refused := ""
	c.until("n2 may not leave", func() bool {
		_, err := c.node("n1").Leave(t.Context(), "n2", false)
		if err != nil && !errors.Is(err, wire.ErrUnavailable) {
			refused = err.Error()
		}
		return strings.Contains(refused, "--force")
	})
	told, err := c.node("n1").Leave(t.Context(), "n2", true)
	if err != nil || !strings.Contains(told, dead.id) {
		t.Fatalf("%q, %v", told, err)
	}
	c.votes("n1")
	<-c.node("n2").Left()
	c.node("n2").halt()
	if r, err := New(Config{Region: "beijing", Node: "n2", Dir: c.node("n2").dir}); err == nil || !strings.Contains(err.Error(), "has left") {
		if err == nil {
			r.Close()
		}
		t.Errorf("a node that has left opens: %v", err)
	}
	if rec, err := Recover(Config{Region: "beijing", Node: "n2", Dir: c.node("n2").dir}); err != nil || rec.ID == c.node("n2").id {
		t.Errorf("it cannot be made a region of its own: %+v, %v", rec, err)
	}
	acked := w.stop()
	back := c.launch("n3", dead.dir, 3)
	<-back.Left()
	back.halt()
	if _, err := c.node("n1").Leave(t.Context(), "n1", true); err == nil {
		t.Error("the last node may leave")
	}
	c.holds(acked)
	n1 := c.node("n1")
	if d, err := n1.all()[0].fsm.Outs(); err != nil || d[dead.id] != machine.OutLeft {
		t.Errorf("%v, %v", d, err)
	}
}

// TestFeatureLevel rolls a region from one level to the next, and back before all nodes have it.
func TestFeatureLevel(t *testing.T) {
	level := map[string]uint32{"n1": 1, "n2": 1, "n3": 1}
	c := newCluster(t, 3, func(cfg *Config) {
		soon(1)(cfg)
		cfg.level = level[cfg.Node]
	})
	w := c.write("alice/a")
	roll := func(name string, to uint32) {
		c.node(name).halt()
		level[name] = to
		c.start(name, c.node(name).dir, 3)
		c.votes("n1", "n2", "n3")
	}
	is := func(want uint32) {
		t.Helper()
		for _, n := range c.live() {
			if n.level() != want {
				t.Errorf("%s is at level %d, not %d", n.id, n.level(), want)
			}
		}
	}
	roll("n1", 2)
	roll("n2", 2)
	is(1)
	c.until("it cannot be resized at the first level", func() bool {
		_, err := c.node("n1").Resize(t.Context(), 5)
		return err != nil && strings.Contains(err.Error(), "feature level 2")
	})
	roll("n1", 1)
	roll("n1", 2)
	is(1)
	roll("n3", 2)
	for _, n := range c.live() {
		c.until("the level has risen", func() bool { return n.level() == 2 })
	}
	acked := w.stop()
	c.holds(acked)
	n3 := c.node("n3")
	n3.halt()
	if r, err := New(Config{Region: "beijing", Node: "n3", Dir: n3.dir, Expect: 3, Cluster: c, Stream: n3.cfg.Stream, level: 1}); err == nil ||
		!strings.Contains(err.Error(), "feature level 2") {
		if err == nil {
			r.Close()
		}
		t.Errorf("a version that cannot apply the level opens: %v", err)
	}
	c.refuses("n4")
}

// refuses starts an empty node of the first level, which ends by itself.
func (c *cluster) refuses(name string) {
	c.t.Helper()
	stream, err := c.listen()
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := Config{Region: "beijing", Node: name, Dir: c.t.TempDir(), Join: true, Cluster: c, Stream: stream.as, level: 1}
	r, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := r.Run(c.t.Context()); err == nil || !strings.Contains(err.Error(), "install the newer one") {
		c.t.Errorf("it ended with %v", err)
	}
	stream.cut()
	if err := r.Close(); err != nil {
		c.t.Error(err)
	}
}

// TestImagesOfAllNodes: a region of several whose disks have all gone back numbers nothing anew under its old incarnation; one of which a node stays
// up, or that was just stopped in order, goes on under it.
func TestImagesOfAllNodes(t *testing.T) {
	var later atomic.Int64
	c := newCluster(t, 3, func(cfg *Config) {
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	names := []string{"n1", "n2", "n3"}
	self := func() crdt.Origin { return c.node(c.leader()).all()[0].fsm.Self() }
	fill := func(turn, n int) {
		for i := range n {
			c.node(c.leader()).put(t, "alice/trip", msg2("alice/trip", fmt.Sprintf("%d-%d", turn, i)))
		}
		c.equal()
	}
	fill(0, 3)
	first := self()
	dirs := map[string]string{}
	for _, name := range names {
		dirs[name] = c.node(name).dir
	}
	again := func() {
		for _, name := range names {
			c.launch(name, dirs[name], 3)
		}
		c.equal()
	}
	halt := func() {
		for _, name := range names {
			c.node(name).halt()
		}
	}

	for _, name := range names { // one after the other, each for long
		c.node(name).halt()
		later.Add(int64(2 * cleanFor))
		c.start(name, dirs[name], 3)
	}
	c.equal()
	halt()
	images := map[string]string{}
	for _, name := range names {
		images[name] = filepath.Join(t.TempDir(), name)
		if err := image.Copy(images[name], dirs[name]); err != nil {
			t.Fatal(err)
		}
	}
	again()
	if got := self(); got != first {
		t.Errorf("it issued as %s, and after restarts in order as %s", first, got)
	}
	fill(1, 5)
	before := c.node("n1").Cursors(crdt.PartitionOf("alice/trip"))[first.ID()]
	halt()

	dirs = images
	later.Add(int64(2 * cleanFor))
	again()
	if got := self(); got == first {
		t.Fatalf("all disks have gone back, and it issues as %s again", got)
	}
	fill(2, 5)
	if got := c.node("n1").Cursors(crdt.PartitionOf("alice/trip"))[first.ID()]; got >= before {
		t.Errorf("%d numbers of the old incarnation, of which it had forgotten some of %d", got, before)
	}
}

// TestCopiesOfAllNodes: a region of several whose nodes all start from copies of their directories, at once, numbers nothing under its old incarnation, from which the copies may
// lack something.
func TestCopiesOfAllNodes(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.node(c.leader()).put(t, "alice/trip", msg("a", "text"))
	c.equal()
	names, dirs := []string{"n1", "n2", "n3"}, map[string]string{}
	first := c.node(c.leader()).all()[0].fsm.Self()
	for _, name := range names {
		dirs[name] = c.node(name).dir
		c.node(name).halt()
	}
	for _, name := range names {
		if err := errors.Join(copyDir(dirs[name]+".copy", dirs[name]), replaced(dirs[name]+".copy", dirs[name])); err != nil {
			t.Fatal(err)
		}
		c.launch(name, dirs[name], 3)
	}
	c.equal()
	if got := c.node(c.leader()).all()[0].fsm.Self(); got == first {
		t.Errorf("all directories are copies, and it issues as %s again", got)
	}
}
