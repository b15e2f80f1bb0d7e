package reload

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var errBad = errors.New("bad")

// pair is two files, and what was taken of them.
type pair struct {
	a, b  string
	files *Files
	taken []string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	dir := t.TempDir()
	p := &pair{a: filepath.Join(dir, "a"), b: filepath.Join(dir, "b")}
	p.files = New(func(contents [][]byte) error {
		if string(contents[0]) == "bad" {
			return errBad
		}
		p.taken = append(p.taken, string(contents[0])+string(contents[1]))
		return nil
	}, p.a, p.b)
	write(t, p.a, "1")
	write(t, p.b, "x")
	if err := p.files.Load(); err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, path, what string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(what), 0o600); err != nil {
		t.Fatal(err)
	}
}

// looks looks so often, and returns how often files were tried, and the last error.
func (p *pair) looks(n int) (tried int, err error) {
	for range n {
		now, bad := p.files.Look()
		if now {
			tried, err = tried+1, bad
		}
	}
	return tried, err
}

// TestTakenOnceSettled: files that do not change are left alone; what changed is taken once, and only when it has stopped changing.
func TestTakenOnceSettled(t *testing.T) {
	p := newPair(t)
	if tried, _ := p.looks(3); tried != 0 {
		t.Errorf("%d tries without a change", tried)
	}
	write(t, p.a, "half")
	p.looks(1)
	write(t, p.a, "2")
	p.looks(1)
	write(t, p.b, "y")
	if tried, err := p.looks(4); tried != 1 || err != nil {
		t.Errorf("%d tries, %v", tried, err)
	}
	if got := strings.Join(p.taken, " "); got != "1x 2y" {
		t.Errorf("taken %q", got)
	}
}

// TestWrongIsSaidOnce: what is refused, or cannot be read, is tried once; what comes after it is taken, and so is what there was before.
func TestWrongIsSaidOnce(t *testing.T) {
	p := newPair(t)
	write(t, p.a, "bad")
	if tried, err := p.looks(5); tried != 1 || !errors.Is(err, errBad) {
		t.Errorf("%d tries, %v", tried, err)
	}
	if err := os.Remove(p.b); err != nil {
		t.Fatal(err)
	}
	if tried, err := p.looks(5); tried != 1 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%d tries, %v", tried, err)
	}
	write(t, p.a, "1")
	write(t, p.b, "x")
	if tried, err := p.looks(5); tried != 1 || err != nil {
		t.Errorf("%d tries, %v", tried, err)
	}
}

func TestTooMuch(t *testing.T) {
	p := newPair(t)
	write(t, p.a, strings.Repeat("z", maxFile+1))
	if tried, err := p.looks(3); tried != 1 || err == nil {
		t.Errorf("%d tries, %v", tried, err)
	}
}

func TestLoadSaysWhatIsMissing(t *testing.T) {
	err := New(func([][]byte) error { return nil }, filepath.Join(t.TempDir(), "none")).Load()
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
