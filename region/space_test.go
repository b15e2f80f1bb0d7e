package region

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

func TestDefaultReserve(t *testing.T) {
	for total, want := range map[uint64]uint64{0: 256 << 20, 1 << 30: 256 << 20, 50 << 30: 1 << 30, 4 << 40: 5 << 30} {
		if got := DefaultReserve(total); got != want {
			t.Errorf("of %d: %d, want %d", total, got, want)
		}
	}
}

// TestSpaceComesBackLater: what is low stays so until a tenth more is free than was needed.
func TestSpaceComesBackLater(t *testing.T) {
	var s Space
	for i, c := range []struct {
		free uint64
		low  bool
	}{{1000, false}, {100, false}, {99, true}, {100, true}, {109, true}, {110, false}, {100, false}, {0, true}, {5000, false}} {
		if s = s.next(c.free, 10_000, 100); s.Low != c.low {
			t.Errorf("look %d, %d free: low is %v", i, c.free, s.Low)
		}
	}
}

// roomy is a disk of 1 GB with as much room as it is told.
type roomy struct {
	vfs.FS
	free *atomic.Int64 // below 0: it does not say
}

var errNoAnswer = errors.New("no answer")

func (d roomy) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if n := d.free.Load(); n >= 0 {
		return vfs.DiskUsage{AvailBytes: uint64(n), TotalBytes: 1e9}, nil
	}
	return vfs.DiskUsage{}, errNoAnswer
}

// TestSpaceIsWatched: who waits for room goes on when there is some, and a disk that does not say is taken to have it.
func TestSpaceIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := roomy{free: new(atomic.Int64)}
		cfg := Config{Region: "beijing", Node: "n1", Dir: "data", Disk: &Disk{Files: d}}
		if err := cfg.check(); err != nil {
			t.Fatal(err)
		}
		s := newSpace(&cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx) }()
		time.Sleep(2 * spaceLook)
		synctest.Wait()
		if err := s.awaitFor(ctx, time.Second); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("there was room on a full disk: %v", err)
		}
		d.free.Store(1e9)
		start := time.Now()
		if err := s.await(ctx); err != nil || time.Since(start) > spaceLook {
			t.Errorf("waited %s: %v", time.Since(start), err)
		}
		d.free.Store(1)
		time.Sleep(2 * spaceLook)
		synctest.Wait()
		if !s.low.Load() {
			t.Error("a full disk is not low")
		}
		d.free.Store(-1)
		time.Sleep(2 * spaceLook)
		synctest.Wait()
		if s.low.Load() || s.now != (Space{}) {
			t.Errorf("a disk that does not say is %+v", s.now)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestNoSpace: a leader refuses puts while its disk is nearly full, serves what it has, lets records wait, and goes on when there is room.
func TestNoSpace(t *testing.T) {
	d := newFaultDisk()
	room := roomy{d.files, new(atomic.Int64)}
	room.free.Store(1e9)
	cfg := d.config()
	cfg.Disk.Files = room
	s := startWith(t, cfg)
	s.put(t, "alice/trip", msg("m1", "one"))
	room.free.Store(1e6)
	s.space.update()
	err := s.Submit(&wire.Put{Session: "alice/trip", Ops: []*crdt.Op{msg("m2", "two")}})
	if e := wire.ErrorOf(err); e.Code != wire.Unavailable || e.Retry == 0 || !strings.Contains(e.Msg, "0 MiB are free") {
		t.Errorf("refused with %+v", e)
	}
	if err := s.View("alice/trip", func(st crdt.Store) {
		if log, _ := crdt.Page(st, 0, 10); len(log) != 1 {
			t.Errorf("%d entries are shown", len(log))
		}
	}); err != nil {
		t.Error(err)
	}
	if got := s.Status(t.Context()).Disk; !got.Low || got.Free != 1e6 || got.Reserve != 256<<20 {
		t.Errorf("status says %+v", got)
	}
	select {
	case <-s.Ready():
	default:
		t.Error("not ready for reads")
	}
	answered := make(chan error, 1)
	go func() {
		_, err := s.Answer(t.Context(), nil, "1-0")
		answered <- err
	}()
	room.free.Store(1e9)
	s.space.update()
	if err := <-answered; err != nil {
		t.Errorf("a report that came meanwhile: %v", err)
	}
	s.put(t, "alice/trip", msg("m2", "two"))
}
