package birth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func begun(t *testing.T) (dir, born string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	if err := errors.Join(os.Mkdir(dir, 0o755), Begin(dir)); err != nil {
		t.Fatal(err)
	}
	return dir, of(t, dir)
}

func of(t *testing.T, dir string) string {
	t.Helper()
	born, err := Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	return born
}

// TestSame: a directory stays what it is while it is read, written to and moved.
func TestSame(t *testing.T) {
	dir, born := begun(t)
	moved, link := dir+".moved", dir+".link"
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "other"), nil, 0o600), os.Rename(dir, moved), os.Symlink(moved, link)); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{moved, link} {
		if got := of(t, at); got != born {
			t.Errorf("%s: %s, was %s", at, got, born)
		}
	}
}

// TestOther: a copy is another one, wherever it is, and so is what a process has begun in. What is done to an inode within a tick of the kernel's clock may not show, so
// that is done until it does.
func TestOther(t *testing.T) {
	for name, do := range map[string]func(dir, file string) error{
		"begun again": func(dir, _ string) error { return Begin(dir) },
		"begun again after one that was cut short": func(dir, file string) error {
			return errors.Join(os.WriteFile(file+".new", []byte(strings.Repeat("left", 100)), 0o600), Begin(dir))
		},
		"copied elsewhere": func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.CopyFS(dir, os.DirFS(dir+".old")), os.RemoveAll(dir+".old"))
		},
		"copied over, times too": func(_, file string) error {
			b, err1 := os.ReadFile(file)
			info, err2 := os.Stat(file)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			return errors.Join(os.WriteFile(file, b, 0o600), os.Chtimes(file, info.ModTime(), info.ModTime()))
		},
		"copied by hard links": func(_, file string) error {
			return errors.Join(os.Link(file, file+".link"), os.Remove(file+".link"))
		},
		"restored from a link": func(_, file string) error {
			return errors.Join(os.Link(file, file+".link"), os.Rename(file, file+".gone"), os.Rename(file+".link", file), os.Remove(file+".gone"))
		},
	} {
		dir, born := begun(t)
		differs := false
		for end := time.Now().Add(10 * time.Second); !differs && time.Now().Before(end); differs = of(t, dir) != born {
			if err := do(dir, filepath.Join(dir, File)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if !differs {
			t.Errorf("%s: it is %s still", name, born)
		}
	}
}

// TestTell: all of it counts: the contents, where inodes are used again and times are coarse; the machine's start, where the whole disk was put back.
func TestTell(t *testing.T) {
	all := map[string]bool{}
	for _, s := range []string{tell("a", 1, 2, "b"), tell("c", 1, 2, "b"), tell("a", 3, 2, "b"), tell("a", 1, 3, "b"), tell("a", 1, 2, "c"), tell("a 1", 2, 2, "b")} {
		all[s] = true
	}
	if len(all) != 6 {
		t.Errorf("%d of 6: %v", len(all), all)
	}
}

// TestOfNamesWhatThereIs: what Of says has the file's contents, and the id of this start of the machine.
func TestOfNamesWhatThereIs(t *testing.T) {
	dir, born := begun(t)
	text, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil || len(text) < 16 || !strings.Contains(born, string(text)) {
		t.Errorf("%q, %v: %s", text, err, born)
	}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil && !strings.Contains(born, strings.TrimSpace(string(id))) {
		t.Errorf("started as %s: %s", id, born)
	}
}

// TestNoFile: without the file, or with something else in its place, there is nothing to tell by.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Of(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	name := filepath.Join(dir, File)
	for what, do := range map[string]func() error{
		"a directory": func() error { return os.Mkdir(name, 0o755) },
		"a link":      func() error { return os.Symlink(dir, name) },
		"too long":    func() error { return os.WriteFile(name, make([]byte, longest+1), 0o600) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if born, err := Of(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %q, %v", what, born, err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := Begin(filepath.Join(dir, "absent")); err == nil {
		t.Error("it began in no directory")
	}
}
