package region

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// kinds notes what Pebble says of the files that it creates.
type kinds struct {
	vfs.FS
	mu   sync.Mutex
	seen []vfs.DiskWriteCategory
}

func (k *kinds) Create(name string, what vfs.DiskWriteCategory) (vfs.File, error) {
	k.mu.Lock()
	k.seen = append(k.seen, what)
	k.mu.Unlock()
	return k.FS.Create(name, what)
}

// TestWhatYields has Pebble flush and compact: it calls these files what they are known by here, and flushes in level 0 are counted.
func TestWhatYields(t *testing.T) {
	fs, way := &kinds{FS: vfs.NewMem()}, &yielding{}
	listener := &pebble.EventListener{}
	way.listen(listener)
	db, err := pebble.Open("db", &pebble.Options{FS: fs, EventListener: listener, DisableAutomaticCompactions: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const flushes = 3
	for n := range flushes {
		for k := range 100 {
			if err := db.Set(fmt.Appendf(nil, "%d", k), fmt.Append(nil, n), nil); err != nil {
				t.Fatal(err)
			}
		}
		way.written.Store(1)
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		if n := way.written.Load(); n != 0 {
			t.Errorf("%d bytes are written since the flush began", n)
		}
	}
	if n := way.waiting.Load(); n != flushes {
		t.Errorf("%d flushes are counted of %d", n, flushes)
	}
	if err := db.Compact(t.Context(), []byte("0"), []byte("z"), false); err != nil {
		t.Fatal(err)
	}
	if n := way.waiting.Load(); n != 0 {
		t.Errorf("%d flushes are counted after all have been compacted", n)
	}
	listener.WriteStallBegin(pebble.WriteStallBeginInfo{})
	if way.compactionRest(time.Second) != 0 {
		t.Error("a compaction rests while writes are stopped")
	}
	listener.WriteStallEnd()
	if way.compactionRest(time.Second) == 0 {
		t.Error("no compaction rests after writes were stopped")
	}
	for _, want := range []vfs.DiskWriteCategory{flushFile, compactionFile} {
		if !slices.Contains(fs.seen, want) {
			t.Errorf("no file was created as %q, but as %q", want, fs.seen)
		}
		if _, ok := way.file(nil, want).(*yieldingFile); !ok {
			t.Errorf("%q does not make way", want)
		}
	}
}

func TestCompactionRest(t *testing.T) {
	for _, c := range []struct {
		waiting, hurried int64
		worked, want     time.Duration
	}{
		{0, 0, paceAfter - 1, 0},
		{0, 0, paceAfter, compactionRests * paceAfter},
		{0, 0, time.Second, compactionRests * paceMost},
		{1, 0, time.Millisecond, (compactionRests - flushCosts) * time.Millisecond},
		{paceBelow - 1, 0, time.Millisecond, time.Millisecond},
		{paceBelow, 0, time.Millisecond, 0},
		{0, 1, time.Millisecond, 0},
	} {
		y := &yielding{}
		y.waiting.Store(c.waiting)
		y.hurried.Store(c.hurried)
		if got := y.compactionRest(c.worked); got != c.want {
			t.Errorf("%+v: rests %v", c, got)
		}
	}
}

func TestFlushRest(t *testing.T) {
	const memtable = 1 << 20
	for _, c := range []struct {
		memtable, written, hurried int64
		worked, want               time.Duration
	}{
		{memtable, 0, 0, paceAfter - 1, 0},
		{memtable, 0, 0, paceAfter, flushRests * paceAfter},
		{memtable, 0, 0, time.Second, flushRests * paceMost},
		{memtable, memtable / flushShare / 2, 0, paceAfter, flushRests / 2 * paceAfter},
		{memtable, memtable / flushShare, 0, paceAfter, 0},
		{memtable, 0, 1, paceAfter, 0},
		{0, 0, 0, paceAfter, 0},
	} {
		y := &yielding{memtable: c.memtable}
		y.written.Store(c.written)
		y.hurried.Store(c.hurried)
		if got := y.flushRest(c.worked); got != c.want {
			t.Errorf("%+v: rests %v", c, got)
		}
	}
}

// TestNothingRestsAtStart: what a node replays is waited for by its clients.
func TestNothingRestsAtStart(t *testing.T) {
	y := &yielding{memtable: 1 << 20}
	y.starting.Store(true)
	if a, b := y.flushRest(time.Second), y.compactionRest(time.Second); a != 0 || b != 0 {
		t.Errorf("a flush rests %v, a compaction %v", a, b)
	}
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if !r.way.hurry() {
		t.Error("what is replayed may wait for a flush at rest")
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	<-r.Ready()
	if r.way.hurry() {
		t.Error("nothing rests in a node that is ready")
	}
	end()
	if err := errors.Join(<-ended, r.Close()); err != nil {
		t.Error(err)
	}
}
