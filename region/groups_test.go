package region

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// putMany puts n messages in different sessions by one node, all at once, and waits for all.
func (s *started) putMany(t testing.TB, prefix string, n int) {
	t.Helper()
	want := map[uint64]bool{}
	failed := make(chan error, n)
	for i := range n {
		tag := tags.Add(1)
		want[tag] = true
		session := fmt.Sprintf("alice/%d", i)
		if err := s.Submit(&wire.Put{
			Session: session, Ops: []*crdt.Op{msg2(session, fmt.Sprintf("%s%d", prefix, i))}, Tag: tag, Fail: func(err error) { failed <- err },
		}); err != nil {
			t.Fatal(err)
		}
	}
	for len(want) > 0 {
		select {
		case err := <-failed:
			t.Fatal(err) // no event will come
		case e := <-s.events:
			if want[e.Tag] && e.Refused != nil {
				t.Error(e.Refused)
			}
			delete(want, e.Tag)
		}
	}
}

func TestPartitionsOfGroups(t *testing.T) {
	for _, groups := range []int{1, 2, 4, 8, 16} {
		all := uint64(0)
		for g := range groups {
			mask := partitionsOf(g, groups)
			if all&mask != 0 || bits.OnesCount64(mask) != crdt.Partitions/groups {
				t.Errorf("group %d of %d: %016x", g, groups, mask)
			}
			all |= mask
		}
		if all != ^uint64(0) {
			t.Errorf("%d groups: %016x is theirs", groups, all)
		}
	}
}

// TestGroupsOnOneNode: each session is its group's alone; a restart finds all of them; their number is for good.
func TestGroupsOnOneNode(t *testing.T) {
	t.Parallel() // it waits, mostly
	dir := t.TempDir()
	cfg := Config{Region: "beijing", Node: "n1", Dir: dir, Groups: 4}
	s := startWith(t, cfg)
	s.putMany(t, "a", 200)
	var selfs []crdt.Origin
	for g := range 4 {
		grp := s.all()[g]
		selfs = append(selfs, grp.fsm.Self())
		for p := range uint8(crdt.Partitions) {
			if mine := grp.mask&(1<<p) != 0; !mine && len(grp.fsm.Cursors(p)) > 0 {
				t.Errorf("group %d has ops of partition %d", g, p)
			}
		}
	}
	if slices.Sort(selfs); len(slices.Compact(selfs)) != 4 || len(s.Origins()) != 4 {
		t.Errorf("the groups issue as %v", selfs)
	}
	op := &crdt.Op{Kind: crdt.KindBegin, Session: "alice/trip", Run: "r", Nonce: "n"}
	held, err := s.Commits((s.GroupOf(op.Session)+1)%4).Answer(t.Context(), []*crdt.Op{op}, "1-0")
	if err != nil || held[0].Verdict != crdt.Unknown {
		t.Errorf("a group on a session of another: %v, %v", held, err)
	}
	s.stop()
	cfg.Groups = 8
	if r, err := New(cfg); err == nil || !strings.Contains(err.Error(), "--groups 4") {
		if err == nil {
			r.Close()
		}
		t.Errorf("opened with another number of groups: %v", err)
	}
	cfg.Groups = 0
	s = startWith(t, cfg)
	if s.Groups() != 4 {
		t.Errorf("%d groups after a restart", s.Groups())
	}
	s.putMany(t, "a", 200) // known by oid
	ops := uint64(0)
	for p := range uint8(crdt.Partitions) {
		for _, f := range s.Cursors(p) {
			ops += f
		}
		if d, err := s.Digest(p); err != nil || d != s.recomputed(t, p) {
			t.Errorf("partition %d: digest %x, recomputed %x, %v", p, d, s.recomputed(t, p), err)
		}
	}
	if ops != 200 {
		t.Errorf("%d ops, want 200", ops)
	}
}

// TestOldDirectoryHasOneGroup: a directory that knows nothing of groups has one, and no other number is taken.
func TestOldDirectoryHasOneGroup(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("a", "one"))
	s.stop()
	if r, err := New(Config{Region: "beijing", Node: "n1", Dir: dir, Groups: 2}); err == nil || !strings.Contains(err.Error(), "--groups 1") {
		if err == nil {
			r.Close()
		}
		t.Errorf("opened with two groups: %v", err)
	}
	s = start(t, "beijing", dir)
	if e := s.put(t, "alice/trip", msg("a", "one")); len(e.Changes) != 0 {
		t.Errorf("the put is not known: %+v", e)
	}
}

func TestPrefers(t *testing.T) {
	voters := []string{"a", "b", "c"}
	for g, want := range []string{"abc", "bca", "cba", "acb", "bca", "cab", "acb", "bac"} {
		if got := strings.Join(prefers(g, voters), ""); got != want {
			t.Errorf("group %d: %s, want %s", g, got, want)
		}
	}
	for _, groups := range []int{4, 8} {
		for _, gone := range voters {
			leads := map[string]int{}
			for g := range groups {
				leads[slices.DeleteFunc(prefers(g, voters), func(v string) bool { return v == gone })[0]]++
			}
			for v, n := range leads {
				if n != groups/2 {
					t.Errorf("of %d groups without %s, %s leads %d", groups, gone, v, n)
				}
			}
		}
	}
}

func TestSeat(t *testing.T) {
	begin := time.Now()
	s := seat{led: begin}
	at := func(d time.Duration, to string) bool { return s.due(begin.Add(d), to) }
	for _, step := range []struct {
		what string
		got  bool
		want bool
	}{
		{"it has only begun to lead", at(0, "b"), false},
		{"the other is steady, and so was this one", at(ledFor, "b"), true},
		{"it was gone in between", at(ledFor+time.Second, ""), false},
		{"it has only come back", at(ledFor+2*time.Second, "b"), false},
		{"it is steady again", at(ledFor+2*time.Second+steadyFor, "b"), true},
	} {
		if step.got != step.want {
			t.Errorf("%s: %t", step.what, step.got)
		}
	}
}

// leads returns how many groups each node leads, once every group has a leader.
func (c *cluster) leads() map[string]int {
	c.t.Helper()
	leads := map[string]int{}
	c.until("every group has one leader", func() bool {
		clear(leads)
		led, n := uint64(0), 0
		for name := range c.nodes {
			if node := c.node(name); node.member.Alive {
				led |= node.Led()
				for _, g := range node.all() {
					if g.leading.Load() {
						leads[name]++
						n++
					}
				}
			}
		}
		return led == ^uint64(0) && n == c.node("n1").Groups()
	})
	return leads
}

func (c *cluster) spread(most int) {
	c.t.Helper()
	c.until(fmt.Sprintf("no node leads more than %d groups", most), func() bool {
		for _, n := range c.leads() {
			if n > most {
				return false
			}
		}
		return true
	})
}

// TestGroupsOnThreeNodes: the leaders are spread, whoever a put enters by; when a node is gone the others share what it led;
// when it is back it gets that again.
func TestGroupsOnThreeNodes(t *testing.T) {
	c := newCluster(t, 3, func(cfg *Config) {
		if cfg.Node != "n2" {
			cfg.Groups = 4 // n2 takes what the region has
		}
	})
	c.spread(2)
	c.until("all three lead, the one that came last too", func() bool { return len(c.leads()) == 3 })
	for _, name := range []string{"n1", "n2", "n3"} {
		c.node(name).putMany(t, name+"-", 100)
	}
	if got := c.equal(); got != 300 {
		t.Errorf("%d ops, want 300", got)
	}
	gone := c.node("n3")
	gone.halt()
	c.spread(2)
	c.node("n1").putMany(t, "without-", 100)
	c.start("n3", gone.dir, 3)
	c.until("the node that came back leads again", func() bool { return c.leads()["n3"] > 0 })
	c.node("n3").putMany(t, "again-", 100)
	if got := c.equal(); got != 500 {
		t.Errorf("%d ops, want 500", got)
	}
}

// TestAnotherNumberOfGroupsIsRefused: a node that is to join with another number says so and ends.
func TestAnotherNumberOfGroupsIsRefused(t *testing.T) {
	c := newCluster(t, 3, func(cfg *Config) { cfg.Groups = 2 })
	r, err := New(Config{
		Region: "beijing", Node: "n4", Dir: t.TempDir(), Expect: 3, Groups: 4, Cluster: c, Stream: func(string) raft.StreamLayer { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.Run(ctx); err == nil || !strings.Contains(err.Error(), "--groups 2") {
		t.Errorf("it ended with %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestOneGroupTakesTheState: a node lacks what was cut from the log of one group. It takes that group's state, while the
// others go on.
func TestOneGroupTakesTheState(t *testing.T) {
	c := newCluster(t, 3, func(cfg *Config) { cfg.Groups, cfg.SnapshotEntries, cfg.TrailingEntries = 4, 20, 5 })
	c.node("n1").putMany(t, "a", 40)
	away := c.node("n3")
	away.halt()
	c.leads()
	busy := "alice/trip"
	group := c.node("n1").GroupOf(busy)
	for i := range 60 {
		c.node("n1").put(t, busy, msg(fmt.Sprint(i), "text"))
	}
	for _, name := range []string{"n1", "n2"} {
		if err := c.node(name).all()[group].raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	c.start("n3", away.dir, 3)
	c.node("n3").putMany(t, "b", 40)
	if got := c.equal(); got != 140 {
		t.Errorf("%d ops, want 140", got)
	}
	for g, grp := range c.node("n3").all() {
		taken, err := grp.taken()
		if (taken > 0) != (g == group) || err != nil {
			t.Errorf("group %d took the state at entry %d (%v); it is group %d that lacks something", g, taken, err, group)
		}
	}
	c.node("n3").halt()
	c.start("n3", away.dir, 3)
	if got := c.equal(); got != 140 {
		t.Errorf("%d ops after a restart, want 140", got)
	}
}
