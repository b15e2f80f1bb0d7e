package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/region"
)

// salvage has a region take in what a directory holds, and returns what the command says.
func (w *world) salvage(region, dir string, change func(*RegionSalvageOptions)) (string, error) {
	w.t.Helper()
	o := RegionSalvageOptions{Admin: []string{w.nodes[region].opts.AdminAddr}, Data: dir, Yes: true, Wait: time.Second}
	if change != nil {
		change(&o)
	}
	var said bytes.Buffer
	err := RegionSalvage(w.t.Context(), o, &said)
	w.t.Logf("salvage into %s: %v\n%s", region, err, &said)
	if left, globErr := filepath.Glob(dir + ".salvage-*"); globErr != nil || len(left) > 0 {
		w.t.Errorf("the copy is left behind: %v %v", left, globErr)
	}
	return said.String(), err
}

// log is what a region shows of the session: oids of messages, in order.
func (w *world) log(region string) (oids []string) {
	w.t.Helper()
	if err := w.nodes[region].region.View(session, func(st crdt.Store) {
		crdt.Log(st, func(e *crdt.Entry) bool {
			oids = append(oids, e.OID)
			return true
		})
	}); err != nil {
		w.t.Fatal(err)
	}
	return oids
}

// evict gives beijing up in shanghai, and waits until what it numbered is closed.
func (w *world) evict(region string) {
	w.t.Helper()
	w.until(region+" is evicted", func() bool {
		err := RegionEvict(w.t.Context(), RegionEvictOptions{Admin: w.nodes["shanghai"].opts.AdminAddr, Region: region, Yes: true, Wait: time.Minute}, w.t.Output())
		return err == nil
	})
}

// TestSalvageOfAnEvictedRegion: what only an evicted region had comes back from its disk, where it was in order, once, however often it is taken
// in and although the command is cut short; and nothing in the disk's directory changes.
func TestSalvageOfAnEvictedRegion(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := newWorld(t, "shanghai", "guangzhou")
	dir := t.TempDir()
	stop := w.start("beijing", dir, w.ring)
	w.put("beijing", "both")
	w.until("all have it", func() bool { return w.has("shanghai", "both") && w.has("guangzhou", "both") })
	w.net.CutBoth("beijing", "shanghai", memnet.Break)
	w.net.CutBoth("beijing", "guangzhou", memnet.Break)
	for i := range 20 {
		w.put("beijing", fmt.Sprintf("alone%d", i))
	}
	w.put("shanghai", "meanwhile")
	w.put("shanghai", "alone7") // by its client
	w.nodes["beijing"].killed.Store(true)
	stop()
	delete(w.nodes, "beijing")
	w.evict("beijing")
	before := tree(t, dir)

	said, err := w.salvage("shanghai", dir, func(o *RegionSalvageOptions) { o.Yes = false })
	if err != nil || !strings.Contains(said, "20 ops that only this disk has under these numbers") || !strings.Contains(said, "nothing was done") || w.has("shanghai", "alone3") {
		t.Fatalf("without --yes: %v", err)
	}
	w.cutShort("shanghai", dir)
	w.says("shanghai", dir, "20 ops that only this disk has under these numbers")
	w.says("shanghai", dir, "0 ops taken in, 0 of them known by their oids (their clients had put them again); 20 were taken in before")
	w.tells("shanghai", dir, "all of them were taken in before")
	w.until("guangzhou has it", func() bool { return w.has("guangzhou", "alone19") })
	w.says("guangzhou", dir, "0 ops taken in")
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("the directory has changed:\n%v\n%v", before, after)
	}
	w.put("guangzhou", "after")
	w.start("beijing", t.TempDir(), w.ring)
	w.net.CutBoth("beijing", "shanghai", memnet.Open)
	w.net.CutBoth("beijing", "guangzhou", memnet.Open)
	w.until("beijing is back", func() bool { return w.nodes["beijing"].region.Self(0) != "" })
	w.until("beijing has all", func() bool { return w.has("beijing", "alone19") && w.has("beijing", "after") })
	w.put("beijing", "back")
	w.equal()
	for name := range w.nodes {
		got := w.log(name)
		if len(got) != 24 || got[0] != "both" || got[23] != "back" || !slices.Contains(got, "meanwhile") {
			t.Errorf("%s shows %v", name, got)
		}
		alone := slices.DeleteFunc(slices.Clone(got), func(oid string) bool { return !strings.HasPrefix(oid, "alone") || oid == "alone7" })
		if len(alone) != 19 || !slices.IsSortedFunc(alone, byLength) {
			t.Errorf("%s has them in the order %v", name, alone)
		}
	}
}

// byLength is the order of names that end in numbers.
func byLength(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// cutShort has a salvage end in the middle: the region is not reached any more.
func (w *world) cutShort(region, dir string) {
	w.t.Helper()
	to, asked := &url.URL{Scheme: "http", Host: w.nodes[region].opts.AdminAddr}, atomic.Int32{}
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		httputil.NewSingleHostReverseProxy(to).ServeHTTP(rw, r)
		if r.URL.Path == salvageExpect && asked.Add(1) == 1 {
			cancel()
		}
	}))
	defer proxy.Close()
	o := RegionSalvageOptions{Admin: []string{strings.TrimPrefix(proxy.URL, "http://")}, Data: dir, Yes: true, Wait: time.Second}
	if err := RegionSalvage(ctx, o, w.t.Output()); !errors.Is(err, context.Canceled) || asked.Load() != 1 {
		w.t.Errorf("cut short after %d: %v", asked.Load(), err)
	}
}

// tree lists the files below a directory, with what they hold.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, fmt.Sprintf("%s %x", path, sha256.Sum256(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSalvageAfterAFork: a disk goes back while its region is cut off and was stopped in order just before, so numbers get two contents. That is
// refused, and the region goes on under others, until it is started empty and its disk is taken in: then all regions have what was put in either
// life, once. A client that was there in the second one, and whose token therefore says that it has seen what it has not, is shown all of it.
func TestSalvageAfterAFork(t *testing.T) {
	t.Parallel() // it waits, mostly
	t.Run("fewer than the others have of the first life", func(t *testing.T) {
		t.Parallel() // they wait, mostly
		forkAndSalvage(t, 3, "")
	})
	t.Run("more", func(t *testing.T) {
		t.Parallel() // they wait, mostly
		forkAndSalvage(t, 8, "noticed")
	})
}

// forkAndSalvage has so many ops numbered twice; then, once that is noticed, one more put, if it has a name.
func forkAndSalvage(t *testing.T, anew int, noticed string) {
	f := newFence(t)
	f.ends = region.ErrForked
	f.stop()
	old := f.image()
	f.stop = f.start("beijing", f.dir, f.ring)
	f.more()
	f.kill()
	if noticed != "" { // the region may not begin anew by itself
		origins := fmt.Sprintln(f.nodes["beijing"].region.Self(0))
		if err := os.WriteFile(filepath.Join(old, "REBUILT"), []byte(origins), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.stop = f.start("beijing", old, f.ring)
	for i := range anew {
		f.put("beijing", fmt.Sprintf("anew%d", i))
	}
	twice, err := f.seen.note(f.nodes["beijing"].region)
	if err != nil || len(twice) == 0 {
		t.Fatalf("nothing has forked: %v, %v", twice, err)
	}
	forked := f.nodes["beijing"].region.Self(0)
	ctx, s, end := talker(t, f.nodes["beijing"], f.nodes["shanghai"])
	defer end()
	lastAnew := fmt.Sprintf("anew%d", anew-1)
	f.until("a client has seen it", func() bool { return slices.Contains(shown(s), lastAnew) })
	f.net.CutBoth("beijing", "shanghai", memnet.Open)
	more := 0
	if noticed != "" {
		f.until("it is noticed", func() bool { return f.nodes["beijing"].region.Self(0) != forked })
		f.put("beijing", noticed)
		more++
	} else {
		f.until("it is noticed", func() bool { return f.nodes["beijing"].region.Failure() != nil })
	}
	f.kill()
	f.stop = f.start("beijing", t.TempDir(), f.ring)
	f.until("beijing has what shanghai has", func() bool { return f.has("beijing", "both4") })

	f.says("shanghai", old, "where the region has something else under these numbers")
	f.until("beijing has it", func() bool { return f.has("beijing", lastAnew) && (noticed == "" || f.has("beijing", noticed)) })
	f.says("beijing", old, "0 ops taken in")
	f.says("beijing", f.dir, "5 ops that only this disk has under these numbers")
	f.put("shanghai", "last")
	f.until("all is everywhere", func() bool { return f.has("beijing", "last") && f.has("shanghai", "alone4") })
	f.equal()
	all := f.log("shanghai")
	if got := slices.Sorted(slices.Values(all)); len(got) != 12+anew+more || len(slices.Compact(got)) != 12+anew+more {
		t.Errorf("shanghai shows %v", all)
	}
	if got := f.log("beijing"); !slices.Equal(got, all) {
		t.Errorf("shanghai shows %v, beijing %v", all, got)
	}
	f.until("the client is shown that", func() bool { return slices.Equal(shown(s), all) || ctx.Err() != nil })
	if got := shown(s); !slices.Equal(got, all) {
		t.Errorf("the client is shown %v", got)
	}
	for _, n := range f.nodes {
		n.killed.Store(true)
	}
}

// TestForkIsRepaired: of two regions, one whose disk went back while it was cut off ends when it meets the other, begins anew when it is started again, and
// has what only it had taken in, although it is killed in between. Nobody has to do more than start it.
func TestForkIsRepaired(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := newFence(t)
	f.ends = region.ErrForked
	f.stop()
	old := f.image()
	f.stop = f.start("beijing", f.dir, f.ring)
	f.more()
	f.kill()
	f.stop = f.start("beijing", old, f.ring)
	for i := range 8 {
		f.put("beijing", fmt.Sprintf("anew%d", i))
	}
	forked := f.nodes["beijing"].region
	f.net.CutBoth("beijing", "shanghai", memnet.Open)
	f.until("it ends", func() bool { return forked.Failure() != nil })
	if err := forked.Failure(); !errors.Is(err, region.ErrForked) {
		t.Fatal(err)
	}
	f.stop()
	f.net.CutBoth("beijing", "shanghai", memnet.Break)
	f.stop = f.start("beijing", old, f.ring)
	f.put("beijing", "meanwhile")
	if f.has("beijing", "anew0") || f.nodes["beijing"].region.Aside() == nil {
		t.Error("it has not begun anew")
	}
	f.kill()
	f.stop = f.start("beijing", old, f.ring)
	f.net.CutBoth("beijing", "shanghai", memnet.Open)
	f.until("what was put aside is taken in", func() bool { return f.nodes["beijing"].region.Aside() == nil })
	f.put("shanghai", "last")
	f.until("all is everywhere", func() bool {
		return f.has("beijing", "last") && f.has("shanghai", "anew7") && f.has("shanghai", "meanwhile")
	})
	f.equal()
	all := f.log("shanghai")
	if got := slices.Sorted(slices.Values(all)); len(got) != 16 || len(slices.Compact(got)) != 16 {
		t.Errorf("shanghai shows %v", all)
	}
	if got := f.log("beijing"); !slices.Equal(got, all) {
		t.Errorf("shanghai shows %v, beijing %v", all, got)
	}
	for _, n := range f.nodes {
		n.killed.Store(true)
	}
	f.stop()
	if left, err := filepath.Glob(filepath.Join(old, "*orked*")); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// TestForkedStateIsKept: a state that was put aside and cannot be read in whole is taken in as far as it can, and stays.
func TestForkedStateIsKept(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := newFence(t)
	f.ends = region.ErrForked
	f.stop()
	old := f.image()
	f.stop = f.start("beijing", f.dir, f.ring)
	f.more()
	f.kill()
	f.stop = f.start("beijing", old, f.ring)
	f.put("beijing", "anew")
	f.stop() // so that the state is written down
	f.stop = f.start("beijing", old, f.ring)
	forked := f.nodes["beijing"].region
	f.net.CutBoth("beijing", "shanghai", memnet.Open)
	f.until("it ends", func() bool { return forked.Failure() != nil })
	f.stop()
	if err := os.RemoveAll(filepath.Join(old, "raft")); err != nil {
		t.Fatal(err)
	}
	f.stop = f.start("beijing", old, f.ring)
	f.until("all is everywhere", func() bool { return f.has("beijing", "anew") && f.has("shanghai", "anew") && f.has("beijing", "both4") })
	f.equal()
	if f.nodes["beijing"].region.Aside() == nil {
		t.Error("what could not be read is gone")
	}
	for _, n := range f.nodes {
		n.killed.Store(true)
	}
}

// TestForkAmongThree: two other regions hold different things under one region's numbers. That region begins anew once, and goes on; when one of the
// others is started empty, and its disk is taken in, all have all.
func TestForkAmongThree(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := newFence(t)
	f.ends = region.ErrForked
	f.stop()
	old, third := f.image(), t.TempDir()
	f.stop = f.start("beijing", f.dir, f.ring)
	f.more()
	f.kill()
	f.net.CutBoth("guangzhou", "shanghai", memnet.Break)
	f.stop = f.start("beijing", old, f.ring)
	f.tune = func(o *ServeOptions) { o.Join = []string{f.nodes["beijing"].opts.ClusterAddr} }
	stop := f.start("guangzhou", third, f.ring)
	f.tune = nil
	for i := range 8 {
		f.put("beijing", fmt.Sprintf("anew%d", i))
	}
	f.until("guangzhou has it", func() bool { return f.has("guangzhou", "anew7") })
	f.net.CutBoth("beijing", "guangzhou", memnet.Break)
	f.net.CutBoth("beijing", "shanghai", memnet.Open)
	forked := f.nodes["beijing"].region
	f.until("it ends", func() bool { return forked.Failure() != nil })
	f.stop()
	f.stop = f.start("beijing", old, f.ring)
	f.until("what was put aside is taken in", func() bool { return f.nodes["beijing"].region.Aside() == nil })
	f.net.CutBoth("beijing", "guangzhou", memnet.Open)
	f.net.CutBoth("guangzhou", "shanghai", memnet.Open)
	f.put("guangzhou", "other")
	f.until("shanghai has what was put aside", func() bool { return f.has("shanghai", "anew7") })

	f.nodes["guangzhou"].killed.Store(true)
	stop()
	f.start("guangzhou", t.TempDir(), f.ring)
	f.says("shanghai", third, "where the region has something else under these numbers")
	f.put("shanghai", "last")
	f.until("all is everywhere", func() bool {
		return f.has("beijing", "last") && f.has("guangzhou", "both4") && f.has("guangzhou", "other")
	})
	f.equal()
	all := f.log("shanghai")
	if got := slices.Sorted(slices.Values(all)); len(got) != 16 || len(slices.Compact(got)) != 16 {
		t.Errorf("shanghai shows %v", all)
	}
	for name, n := range f.nodes {
		if got := f.log(name); !slices.Equal(got, all) || n.region.Failure() != nil {
			t.Errorf("shanghai shows %v, %s %v: %v", all, name, got, n.region.Failure())
		}
		n.killed.Store(true)
	}
}

// shown is what a client shows.
func shown(s *client.Session) (oids []string) {
	for _, e := range s.State().Log {
		oids = append(oids, e.OID)
	}
	return oids
}

// TestSalvageHonoursRemovals: what was erased while the disk was away stays away, what its users had deleted is deleted, the last
// writer wins by when it wrote, and what was put elsewhere is not removed with what a forget had seen.
func TestSalvageHonoursRemovals(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := newWorld(t, "shanghai")
	dir := t.TempDir()
	stop := w.start("beijing", dir, w.ring)
	const erased, forgotten = "bob/notes", "alice/gone"
	msg := func(session, oid string) *crdt.Op {
		user, _, _ := strings.Cut(session, "/")
		return &crdt.Op{Kind: crdt.KindMsg, Session: session, OID: oid, User: user, Role: "user", Text: oid}
	}
	set := func(oid, value string) *crdt.Op {
		return &crdt.Op{Kind: crdt.KindSet, Session: session, OID: oid, User: "alice", Key: "title", Value: []byte(`"` + value + `"`)}
	}
	for _, s := range []string{session, erased, forgotten} {
		w.submit("beijing", msg(s, "first"))
	}
	w.submit("beijing", set("set0", "at first"))
	w.until("shanghai has it", func() bool {
		return w.knows("shanghai", session, "set0") && w.knows("shanghai", erased, "first") && w.knows("shanghai", forgotten, "first")
	})
	w.net.CutBoth("beijing", "shanghai", memnet.Break)
	w.submit("beijing", msg(erased, "secret"))
	w.submit("beijing", set("set1", "old"))
	w.submit("beijing", msg(forgotten, "second"))
	w.submit("beijing", &crdt.Op{Kind: crdt.KindForget, Session: forgotten, OID: "forget", User: "alice"})
	w.submit("beijing", &crdt.Op{Kind: crdt.KindEdit, Session: session, OID: "edit", User: "alice", Of: "first", Text: "edited"})
	w.nodes["beijing"].killed.Store(true)
	stop()
	w.submit("shanghai", set("set2", "new"))
	w.submit("shanghai", msg(forgotten, "elsewhere"))
	if err := Erase(t.Context(), EraseOptions{Admin: w.nodes["shanghai"].opts.AdminAddr, User: "bob", Yes: true}, t.Output()); err != nil && !errors.Is(err, errNotYet) {
		t.Fatal(err)
	}
	delete(w.nodes, "beijing")
	w.evict("beijing")
	w.says("shanghai", dir, "4 ops that only this disk has under these numbers; 1 ops of sessions that were erased since are left out")
	w.says("shanghai", dir, "0 ops taken in")
	for s, want := range map[string]string{session: "edited", erased: "", forgotten: "elsewhere"} {
		if err := w.nodes["shanghai"].region.View(s, func(st crdt.Store) {
			var texts []string
			crdt.Log(st, func(e *crdt.Entry) bool {
				texts = append(texts, e.Msg.Text)
				return true
			})
			if got := strings.Join(texts, " "); got != want {
				t.Errorf("%s shows %q", s, got)
			}
			for _, m := range crdt.Map(st) {
				if string(m.Value) != `"new"` {
					t.Errorf("%s is %s", m.Key, m.Value)
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if w.knows("shanghai", erased, "secret") {
		t.Error("what was erased is back")
	}
}

// knows reports whether a region knows an op of a session.
func (w *world) knows(region, session, oid string) (found bool) {
	w.t.Helper()
	if err := w.nodes[region].region.View(session, func(st crdt.Store) { _, found = crdt.Lookup(st, oid) }); err != nil {
		w.t.Fatal(err)
	}
	return found
}
