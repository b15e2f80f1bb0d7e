package region

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// opsOf counts the ops that a found disk holds.
func opsOf(f *Found) (n uint64) {
	for p := range uint8(crdt.Partitions) {
		for _, c := range f.Of(p).Cursors(p) {
			n += c
		}
	}
	return n
}

// TestOpenFound: the directory of a node of several is read with what only its log has, and does not change.
func TestOpenFound(t *testing.T) {
	for _, groups := range []int{1, 4} {
		t.Run(fmt.Sprint(groups), func(t *testing.T) {
			c := newCluster(t, 3, func(cfg *Config) { cfg.Groups = groups })
			first := c.node("n1")
			first.putMany(t, "a", 100)
			if got := c.equal(); got != 100 {
				t.Fatalf("%d ops, want 100", got)
			}
			for _, name := range []string{"n3", "n2", "n1"} {
				c.node(name).halt()
			}
			c.nodes = map[string]*clusterNode{}
			before, work := files(t, first.dir), filepath.Join(t.TempDir(), "work")
			f, err := OpenFound(first.dir, work, nil)
			if err != nil {
				t.Fatal(err)
			}
			if f.Region != "beijing" || f.Node != "n1" || f.Groups != groups || f.Torn != nil || opsOf(f) != 100 {
				t.Errorf("found %+v with %d ops", f, opsOf(f))
			}
			if err := f.Do(func() error { return errDamaged }); !errors.Is(err, errDamaged) {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if after := files(t, first.dir); after != before {
				t.Errorf("the directory was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// files lists what is below a directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %d %x\n", path, len(b), newChecksumOf(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func newChecksumOf(b []byte) []byte {
	sum := newChecksum()
	sum.add(nil, b)
	return sum.sum()
}

// aged makes a directory of which the state is older than the log, or the log older than the state.
func aged(t *testing.T, sub string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("a", "text"))
	s.stop()
	older := t.TempDir()
	if err := os.CopyFS(filepath.Join(older, sub), os.DirFS(filepath.Join(dir, sub))); err != nil {
		t.Fatal(err)
	}
	s = start(t, "beijing", dir)
	for i := range 10 {
		s.put(t, "alice/trip", msg(fmt.Sprint(i), "text"))
	}
	s.stop()
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, sub)), os.Rename(filepath.Join(older, sub), filepath.Join(dir, sub))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOpenFoundReplays: what is in the log and not in the state counts; a log that does not reach the state is left alone, and the state counts.
func TestOpenFoundReplays(t *testing.T) {
	for sub, torn := range map[string]bool{"state": false, "raft": true} {
		dir := aged(t, sub)
		if torn { // and an operator was told that it is damaged
			if err := os.WriteFile(filepath.Join(dir, damageFile), []byte("found: today"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // the first has changed nothing
			f, err := OpenFound(dir, filepath.Join(t.TempDir(), "work"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if opsOf(f) != 11 || (f.Torn != nil) != torn || (f.Replayed > 0) == torn {
				t.Errorf("%s: %d ops, %d replayed, torn: %v", sub, opsOf(f), f.Replayed, f.Torn)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestOpenFoundEvicted: a disk that its region may not start from is read all the same, and so is that of a node which has left.
func TestOpenFoundEvicted(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("a", "text"))
	own, p := s.Self(), crdt.PartitionOf("alice/trip")
	evict := &machine.Command{Kind: machine.KindEvict, Peer: "beijing", Eviction: crdt.Eviction{Bound: own.Incarnation()}}
	if _, err := s.all()[0].do(t.Context(), evict); err != nil {
		t.Fatal(err)
	}
	if err := s.note(nodeLeft, 1); err != nil {
		t.Fatal(err)
	}
	s.stop()
	f, err := OpenFound(dir, filepath.Join(t.TempDir(), "work"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.Of(p).Cursors(p)[own.ID()] != 1 {
		t.Errorf("it holds %v", f.Of(p).Cursors(p))
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenFoundRefuses: what is no node's directory is refused in words, and left as it is.
func TestOpenFoundRefuses(t *testing.T) {
	never := t.TempDir()
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: never, Expect: 3, Cluster: newCluster(t, 0, nil), Stream: func(string) raft.StreamLayer { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.MkdirAll(filepath.Join(other, "state"), 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, why := range map[string]string{never: "never part of its region", other: "which node's directory", t.TempDir(): "no node's directory"} {
		if _, err := OpenFound(dir, filepath.Join(t.TempDir(), "work"), nil); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("not %q: %v", why, err)
		}
	}
}
