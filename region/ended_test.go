package region

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/image"
	"github.com/roamsync/roam/region/birth"
)

// TestDoubt: that a process ended in order counts for as long as a restart takes, not by a clock that was put back, and in its own directory only.
func TestDoubt(t *testing.T) {
	ended := time.UnixMilli(1_800_000_000_000)
	mark, older := endedMark(ended, "born"), endedMark(ended, "")
	for _, c := range []struct {
		mark []byte
		born string
		ago  time.Duration
		why  string
	}{
		{mark, "born", 0, ""}, {mark, "born", cleanFor - 1, ""},
		{mark, "born", cleanFor, "ended 1m0s ago"}, {mark, "born", -time.Second, "ended -1s ago"},
		{nil, "born", 0, "in order"}, {nil, "", 0, "in order"}, {[]byte{1}, "born", 0, "in order"},
		{mark, "a copy", 0, "a copy"}, {mark, "", 0, "a copy"}, {older, "born", 0, "a copy"}, {older, "", 0, "a copy"},
	} {
		if got := doubt(c.mark, c.born, ended.Add(c.ago)); (got == "") != (c.why == "") || !strings.Contains(got, c.why) {
			t.Errorf("%q of %q after %s: %q, want %q", c.mark, c.born, c.ago, got, c.why)
		}
	}
}

// wayBack is a way to put a directory back to what it was when it was copied to old.
type wayBack struct {
	name          string
	copy          func(old, dir string) error // while the node is stopped, the first time
	restore       func(old, dir string) error // while it is stopped again
	second, third bool                        // whether the next process issues as the first did, and the one after the restore
}

var waysBack = []wayBack{
	{"copy in its place", copyDir, replaced, true, false},
	{"copy over it", copyDir, overwritten, true, false},
	{"copy over it, the file of the start left as it is", copyDir, func(old, dir string) error {
		return errors.Join(os.Remove(filepath.Join(old, birth.File)), overwritten(old, dir))
	}, true, false},
	{"copy without the file of the start", func(old, dir string) error {
		return errors.Join(copyDir(old, dir), os.Remove(filepath.Join(old, birth.File)))
	}, replaced, true, false},
	{"original moved away, while a copy ran", func(old, dir string) error {
		return errors.Join(os.Rename(dir, old), copyDir(dir, old))
	}, replaced, false, true},
	{"image of the whole file system", func(old, dir string) error { return image.Copy(old, dir) }, replaced, true, true},
}

func copyDir(to, from string) error { return os.CopyFS(to, os.DirFS(from)) }

// replaced has old take the place of dir.
func replaced(old, dir string) error { return errors.Join(os.RemoveAll(dir), os.Rename(old, dir)) }

// overwritten makes dir's files what old's are, in place: each stays the inode that it was. What old does not have goes, but for the file of the start.
func overwritten(old, dir string) error {
	return errors.Join(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == birth.File {
			return err
		}
		if _, err := os.Stat(filepath.Join(old, rel(dir, path))); errors.Is(err, fs.ErrNotExist) {
			return os.Remove(path)
		}
		return nil
	}), filepath.WalkDir(old, func(path string, d fs.DirEntry, err error) error {
		to := filepath.Join(dir, rel(old, path))
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755))
		}
		b, err1 := os.ReadFile(path)
		info, err2 := d.Info()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		return errors.Join(os.WriteFile(to, b, 0o600), os.Chtimes(to, info.ModTime(), info.ModTime()))
	}))
}

func rel(dir, path string) string {
	r, err := filepath.Rel(dir, path)
	if err != nil {
		panic(err)
	}
	return r
}

// TestCopyIsNotTheOriginal: a region that was stopped in order goes on under its incarnation when it is started at once, and not from a copy of its directory, however that
// is put back: what was numbered since is not numbered again.
func TestCopyIsNotTheOriginal(t *testing.T) {
	t.Parallel() // it waits, mostly
	for _, c := range waysBack {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they wait, mostly
			for _, groups := range []int{1, 4} {
				putsBack(t, groups, c)
			}
		})
	}
}

func putsBack(t *testing.T, groups int, c wayBack) {
	dir, old := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "old")
	var was []crdt.Origin
	run := func(oid string) (same bool) {
		s := startWith(t, Config{Region: "beijing", Node: "n1", Dir: dir, Groups: groups})
		s.put(t, "alice/trip", msg(oid, oid))
		for n := range groups {
			self := s.Region.Self(uint8(n * crdt.Partitions / groups))
			if was = append(was, self); self == was[n] {
				same = true
			}
		}
		s.stop()
		return same
	}
	run("one")
	if err := c.copy(old, dir); err != nil {
		t.Fatal(err)
	}
	if run("two") != c.second {
		t.Errorf("restarted at once, it issued as %s", was)
	}
	if err := c.restore(old, dir); err != nil {
		t.Fatal(err)
	}
	if run("three") != c.third {
		t.Errorf("put back, it issued as %s", was)
	}
}

// TestStartThatIsCutShort: whatever a start leaves that is killed while it notes that it begins, the next one does not believe the mark of before.
func TestStartThatIsCutShort(t *testing.T) {
	t.Parallel() // it waits, mostly
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("a", "one"))
	first := s.Self()
	s.stop()
	if err := birth.Begin(dir); err != nil { // and the mark is still there
		t.Fatal(err)
	}
	s = start(t, "beijing", dir)
	if got := s.Self(); got == first {
		t.Errorf("it issues as %s again", got)
	}
	s.stop()
	if s = start(t, "beijing", dir); s.Self() == first {
		t.Error("the next one issues as the first again")
	}
}

// TestStartThatCannotBeNoted: a node does not start where it cannot note that it does.
func TestStartThatCannotBeNoted(t *testing.T) {
	dir := t.TempDir()
	start(t, "beijing", dir).stop()
	name := filepath.Join(dir, birth.File)
	if err := errors.Join(os.Remove(name), os.Mkdir(name, 0o755)); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: dir})
	if err == nil {
		r.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "note that a process begins") || !strings.Contains(err.Error(), name) {
		t.Error(err)
	}
}

// TestAnotherNodeLeavesTheMark: who is refused a directory has not begun in it.
func TestAnotherNodeLeavesTheMark(t *testing.T) {
	t.Parallel() // it waits, mostly
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("a", "one"))
	first := s.Self()
	s.stop()
	if r, err := New(Config{Region: "beijing", Node: "n2", Dir: dir}); err == nil || !strings.Contains(err.Error(), "belongs to node beijing/n1") {
		if err == nil {
			r.Close()
		}
		t.Fatal(err)
	}
	if got := start(t, "beijing", dir).Self(); got != first {
		t.Errorf("it issues as %s, not as %s: another node was begun in its directory in vain", got, first)
	}
}
