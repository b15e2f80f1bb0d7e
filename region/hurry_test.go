package region

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestAnEndWaitsForNoFlushAtRest ends a node while its log is being cut, which waits for a flush: that rests no more.
func TestAnEndWaitsForNoFlushAtRest(t *testing.T) {
	d := newFaultDisk()
	var way atomic.Pointer[yielding]
	var once sync.Once
	flushing := make(chan struct{})
	d.before = func(_ int64, path string) error {
		y := way.Load()
		if y == nil || !strings.HasSuffix(path, ".sst") {
			return nil
		}
		once.Do(func() { close(flushing) })
		late, look := time.NewTimer(time.Minute), time.NewTicker(time.Millisecond)
		defer late.Stop()
		defer look.Stop()
		for y.hurried.Load() == 0 {
			select {
			case <-look.C:
			case <-late.C:
				return errors.New("the flush is at rest still")
			}
		}
		return nil
	}
	cfg := d.config()
	cfg.MemtableBytes, cfg.SnapshotEntries, cfg.SnapshotBytes = 0, 0, 1
	s := startWith(t, cfg)
	way.Store(&s.way)
	s.put(t, "alice/trip", msg("a", "one"))
	<-flushing
	s.stop()
}

// TestCloseHurriesTheLog: Pebble waits for what it compacts when it is closed.
func TestCloseHurriesTheLog(t *testing.T) {
	cfg := Config{Region: "beijing", Node: "n1", Dir: t.TempDir()}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	r := prepare(cfg)
	defer r.stop()
	l, err := r.openPebbleLogs(r.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if l.way.compactionRest(time.Second) == 0 {
		t.Error("nothing rests while the log is open")
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if d := l.way.compactionRest(time.Second); d != 0 {
		t.Errorf("what the log compacts rests for %v while it is closed", d)
	}
}
