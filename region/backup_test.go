package region

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/backup"
	"github.com/roamsync/roam/region/machine"
)

func (s *started) backUp(t testing.TB) []byte {
	t.Helper()
	ctx, done, ok := s.Hold(t.Context())
	if !ok {
		t.Fatal("the node is stopping")
	}
	defer done()
	var b bytes.Buffer
	if err := s.Backup(ctx, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restoreTo(t testing.TB, dir string, file []byte) Saved {
	t.Helper()
	got, err := Restore(context.Background(), RestoreConfig{Dir: dir}, bytes.NewReader(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestRestoreBeginsAnew: a node that is restored from a backup has what was put before it, goes on under an incarnation
// of its own, and gets back what others have of the one before. No number has two contents.
func TestRestoreBeginsAnew(t *testing.T) {
	t.Parallel() // it waits, mostly
	for _, groups := range []int{1, 4} {
		t.Run(fmt.Sprint(groups), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := startWith(t, Config{Region: "beijing", Node: "n1", Dir: dir, Groups: groups})
			other := start(t, "shanghai", t.TempDir())
			s.putMany(t, "a", 100)
			file := s.backUp(t)
			s.putMany(t, "b", 100)
			for other.pull(t, s, 1<<20) {
			}
			s.putMany(t, "lost", 10)
			lost := s.Origins()
			s.stop()

			restored := t.TempDir()
			if got := restoreTo(t, restored, file); got.Sessions != 100 || got.Region != "beijing" || len(got.Applied) != groups || got.Behind {
				t.Errorf("restored %+v", got)
			}
			s = startWith(t, Config{Region: "beijing", Node: "n1", Dir: restored, Expect: 1})
			for p := range uint8(crdt.Partitions) {
				for _, o := range lost {
					if s.Region.Self(p) == o {
						t.Errorf("partition %d is numbered as %s again", p, o)
					}
				}
			}
			s.putMany(t, "c", 100)
			for moved := true; moved; { // what was put meanwhile comes back, and what is new goes there
				moved = s.pull(t, other, 1<<20)
				moved = other.pull(t, s, 1<<20) || moved
			}
			var sessions []string
			for i := range 100 {
				sessions = append(sessions, fmt.Sprintf("alice/%d", i))
			}
			sameState(t, s, other, sessions)
			s.holds(t, sessions, "a", "b", "c")
			s.putMany(t, "lost", 10) // by clients, which keep it
			s.stop()
			s = startWith(t, Config{Region: "beijing", Node: "n1", Dir: restored})
			s.holds(t, sessions, "a", "b", "c")
		})
	}
}

// holds wants each session to have just the messages of some rounds of putMany, each once.
func (s *started) holds(t *testing.T, sessions []string, prefixes ...string) {
	t.Helper()
	for i, name := range sessions {
		want := map[string]int{}
		for _, p := range prefixes {
			want[fmt.Sprintf("%s%d", p, i)]++
		}
		if err := s.View(name, func(st crdt.Store) {
			log, _ := crdt.Page(st, 0, 1000)
			for _, e := range log {
				if !strings.HasPrefix(e.OID, "lost") {
					want[e.OID]--
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
		for oid, n := range want {
			if n != 0 {
				t.Errorf("%s: %s is there %d times", name, oid, 1-n)
			}
		}
	}
}

// TestRestoredRegionGrows: nodes that are empty join one that was restored, and take its state.
func TestRestoredRegionGrows(t *testing.T) {
	s := start(t, "beijing", t.TempDir())
	for i := range 20 {
		s.put(t, "alice/trip", msg(fmt.Sprint(i), "text"))
	}
	file := s.backUp(t)
	s.stop()
	dir := t.TempDir()
	restoreTo(t, dir, file)
	c := newCluster(t, 0, nil)
	c.start("n1", dir, 3)
	c.node("n1").put(t, "alice/trip", msg("after", "text"))
	c.start("n2", t.TempDir(), 3)
	c.start("n3", t.TempDir(), 3)
	c.node("n2").put(t, "alice/trip", msg("more", "text"))
	if got := c.equal(); got != 22 {
		t.Errorf("%d ops, want 22", got)
	}
}

// TestRestoreRefuses: what is not a whole backup of the region, and what would overwrite something, changes nothing.
func TestRestoreRefuses(t *testing.T) {
	s := start(t, "beijing", t.TempDir())
	s.put(t, "alice/trip", msg("a", "text"))
	file := s.backUp(t)
	s.stop()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newer := bytes.Replace(file, []byte("roam backup 1"), []byte("roam backup 2"), 1)
	level := bytes.Replace(file, fmt.Appendf(nil, `"level":%d`, machine.FeatureLevel), []byte(`"level":9`), 1)
	for _, c := range []struct {
		name string
		cfg  RestoreConfig
		file []byte
		is   error
		says string
	}{
		{"not empty", RestoreConfig{Dir: full}, file, nil, "empty directory only"},
		{"other region", RestoreConfig{Dir: t.TempDir(), Region: "shanghai"}, file, nil, "of region beijing, not shanghai"},
		{"newer format", RestoreConfig{Dir: t.TempDir()}, newer, backup.ErrNewer, "format is 2"},
		{"newer level", RestoreConfig{Dir: t.TempDir()}, level, backup.ErrNewer, "level 9"},
		{"not a backup", RestoreConfig{Dir: t.TempDir()}, []byte("hello\nthere\n"), backup.ErrDamaged, "does not begin"},
		{"cut", RestoreConfig{Dir: t.TempDir()}, file[:len(file)-1], backup.ErrDamaged, ""},
		{"node", RestoreConfig{Dir: t.TempDir(), Node: "N 1"}, file, nil, "N 1"},
	} {
		_, err := Restore(t.Context(), c.cfg, bytes.NewReader(c.file), nil)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if left, err := os.ReadDir(c.cfg.Dir); c.name != "not empty" && (err != nil || len(left) > 0) {
			t.Errorf("%s: it left %v, %v", c.name, left, err)
		}
	}
}

// TestHalfRestoredIsRefused: wherever a restore is cut short, no node starts in what there is.
func TestHalfRestoredIsRefused(t *testing.T) {
	s := start(t, "beijing", t.TempDir())
	s.put(t, "alice/trip", msg("a", "text"))
	file := s.backUp(t)
	s.stop()
	whole := t.TempDir()
	restoreTo(t, whole, file)
	for _, moved := range []string{"", "raft", "state"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, restoring), 0o755); err != nil {
			t.Fatal(err)
		}
		if moved != "" {
			if err := os.CopyFS(filepath.Join(dir, moved), os.DirFS(filepath.Join(whole, moved))); err != nil {
				t.Fatal(err)
			}
		}
		r, err := New(Config{Region: "beijing", Node: "n1", Dir: dir})
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "roam restore was cut short") {
			t.Errorf("with %q in place: %v", moved, err)
		}
	}
}

// TestBackupIsSound: no backup reads if a byte of it is missing or other than it was.
func TestBackupIsSound(t *testing.T) {
	s := start(t, "beijing", t.TempDir())
	s.put(t, "alice/trip", msg("a", "text"))
	file := s.backUp(t)
	got, err := ReadBackup(bytes.NewReader(file), nil)
	if err != nil || got.Sessions != 1 || got.Keys == 0 || got.Region != "beijing" {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range file {
		if _, err := ReadBackup(bytes.NewReader(file[:i]), nil); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("cut at %d of %d: %v", i, len(file), err)
		}
		flipped := bytes.Clone(file)
		flipped[i] ^= 1 << (i % 8)
		if _, err := ReadBackup(bytes.NewReader(flipped), nil); !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNewer) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	if _, err := ReadBackup(io.MultiReader(bytes.NewReader(file), strings.NewReader("x")), nil); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("with a byte more: %v", err)
	}
}
