package region

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestHungDisk: a disk that never answers again ends Run, with the limit and a second, although Raft waits for it; Close does not
// wait for it either.
func TestHungDisk(t *testing.T) {
	if !inProcessOfItsOwn(t) {
		return
	}
	d := newFaultDisk()
	cfg := d.config()
	cfg.StallLimit, cfg.leave = 100*time.Millisecond, leaveLimit
	hung, released := make(chan struct{}), make(chan struct{})
	d.before = func(_ int64, op string) error {
		select {
		case <-hung:
			if strings.HasSuffix(op, ".wal") {
				<-released
			}
		default:
		}
		return nil
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(context.Background()) }()
	<-r.Ready()
	close(hung)
	go r.Commits(0).Answer(context.Background(), nil, "1-0")
	if err := <-done; err == nil || !strings.Contains(err.Error(), "has taken more than 100ms for one write") {
		t.Errorf("ended with %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closed with %v", err)
	}
	close(released)
}

// spoil turns one byte of a file round.
func spoil(t *testing.T, path string, at func(size int) int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at(len(b))] ^= 0x40
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// fill puts what will take a table, flushes it, and ends.
func fill(t *testing.T, dir string) {
	t.Helper()
	s := start(t, "beijing", dir)
	for i := range 30 {
		s.put(t, "alice/trip", msg(fmt.Sprintf("m%d", i), strings.Repeat(fmt.Sprintf("%x", rand.Uint64()), 100)))
	}
	if err := s.all()[0].raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	s.stop()
}

// failing runs a region until it ends by itself, which it is made to by what poke does.
func failing(t *testing.T, cfg Config, poke func(*Region)) error {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(context.Background()) }()
	poke(r)
	return errors.Join(<-done, r.Close())
}

// refusesUntilLifted: a start refuses, names what is damaged and what to do, and goes on when the mark is taken away.
func refusesUntilLifted(t *testing.T, cfg Config, err error, where string) {
	t.Helper()
	mark := filepath.Join(cfg.Dir, damageFile)
	for _, want := range []string{"damaged", where, "empty the directory", "restore a backup", mark} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
	r, err := New(cfg)
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), where) || !strings.Contains(err.Error(), "found: 20") {
		t.Errorf("the next start: %v", err)
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedTable: a block of the state that does not read back ends the node when it is read, and the next start refuses.
func TestDamagedTable(t *testing.T) {
	t.Parallel() // it waits, mostly
	if !inProcessOfItsOwn(t) {
		return
	}
	dir := t.TempDir()
	fill(t, dir)
	tables, err := filepath.Glob(filepath.Join(dir, "state", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	largest := tables[0]
	for _, path := range tables {
		if size(t, path) > size(t, largest) {
			largest = path
		}
	}
	spoil(t, largest, func(n int) int { return n / 2 })
	cfg := Config{Region: "beijing", Node: "n1", Dir: dir}
	err = failing(t, cfg, func(r *Region) {
		r.own().Scan([]byte{0}, []byte{0xFF}, false, func(_, _ []byte) bool { return true })
	})
	refusesUntilLifted(t, cfg, err, filepath.Base(largest))
	spoil(t, largest, func(n int) int { return n / 2 }) // it is whole again
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("after", "all is well"))
	s.stop()
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return f.Size()
}

// TestDamagedEntry: an entry of the log that does not read back ends the node before anything is applied from it.
func TestDamagedEntry(t *testing.T) {
	t.Parallel() // it waits, mostly
	if !inProcessOfItsOwn(t) {
		return
	}
	dir := t.TempDir()
	fill(t, dir)
	cfg := Config{Region: "beijing", Node: "n1", Dir: dir}
	err := failing(t, cfg, func(r *Region) {
		<-r.Ready()
		seg, err := filepath.Glob(filepath.Join(dir, "raft", "*.wal"))
		if err != nil || len(seg) == 0 {
			t.Fatal(seg, err)
		}
		spoil(t, seg[0], func(int) int { return 4096 }) // inside of a text
		g := r.all()[0]
		go func() { // as Raft does, when it applies or sends them
			for i := uint64(1); i <= g.raft.LastIndex(); i++ {
				g.log.GetLog(i, new(raft.Log))
			}
		}()
	})
	refusesUntilLifted(t, cfg, err, "of the Raft log")
}

// memLog keeps what it is given.
type memLog struct {
	raft.LogStore
	held map[uint64]raft.Log
}

func (m memLog) StoreLogs(ls []*raft.Log) error {
	for _, l := range ls {
		m.held[l.Index] = *l
	}
	return nil
}

func (m memLog) GetLog(index uint64, l *raft.Log) error {
	*l = m.held[index]
	return nil
}

// TestEntrySum: an entry that was changed in any way is told from one that was not, and from those of older versions.
func TestEntrySum(t *testing.T) {
	m := memLog{held: map[uint64]raft.Log{}}
	s := summedLog{m}
	entry := raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("text")}
	if err := s.StoreLog(&entry); err != nil || entry.Extensions != nil {
		t.Fatalf("stored %+v: %v", entry, err)
	}
	var got raft.Log
	if err := s.GetLog(7, &got); err != nil || !reflect.DeepEqual(got, entry) {
		t.Errorf("read %+v: %v", got, err)
	}
	whole := m.held[7]
	for _, change := range []func(*raft.Log){
		func(l *raft.Log) { l.Index++ }, func(l *raft.Log) { l.Term++ }, func(l *raft.Log) { l.Type++ },
		func(l *raft.Log) { l.Data = []byte("test") }, func(l *raft.Log) { l.Extensions = []byte{sumMark, 0, 0, 0, 0} },
		func(l *raft.Log) { l.Extensions = l.Extensions[:4] }, func(l *raft.Log) { l.Data = nil },
	} {
		l := whole
		change(&l)
		m.held[7] = l
		if err := s.GetLog(7, &got); !errors.Is(err, errEntrySum) || !isDamage(err) {
			t.Errorf("%+v was read: %v", l, err)
		}
	}
	m.held[7] = entry // of a version that gave no sums
	if err := s.GetLog(7, &got); err != nil {
		t.Error(err)
	}
}
