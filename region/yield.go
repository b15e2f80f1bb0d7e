package region

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// What Pebble says of the files that it creates in the background.
const (
	flushFile      vfs.DiskWriteCategory = "pebble-memtable-flush"
	compactionFile vfs.DiskWriteCategory = "pebble-compaction"
)

const (
	// What has worked for paceAfter rests the longer the less it is needed. A compaction rests compactionRests times as long as it has worked, flushCosts times
	// less for each flush that has come since it began, but as long at least, and not at all while paceBelow flushes wait in level 0 (reads look at each of
	// them, and at l0Most Pebble stops writes). A flush rests flushRests times as long when it has just begun, and not at all when a flushShare-th of a
	// memtable has been written since: with memtables of them Pebble stops writes, too. Nothing rests until the node is ready, while writes are stopped, or while somebody
	// waits for a flush.
	paceAfter  = 500 * time.Microsecond
	paceBelow  = l0Files
	flushShare = 2

	compactionRests = 12
	flushCosts      = 4
	flushRests      = 16

	// paceMost bounds what is taken for work: the rest was waiting for a processor.
	paceMost = 2 * time.Millisecond
)

// yielding makes way for clients in Pebble's background work. A goroutine that computes holds its processor for 10 ms before the scheduler takes it away, and an entry
// passes a dozen goroutines on its way: with a flush or a compaction on every processor it would wait at each. And regions whose clients talk to each other fill
// their memtables at the same time, so that all would flush at once.
type yielding struct {
	memtable int64        // bytes; 0: flushes do not rest
	waiting  atomic.Int64 // flushes that no compaction has begun to take out of level 0
	written  atomic.Int64 // bytes since the last flush began
	hurried  atomic.Int64 // who waits for a flush; writes do, too, that Pebble has stopped
	starting atomic.Bool  // the node replays its log, and its clients wait for that
}

// hurry reports whether nothing is to rest.
func (y *yielding) hurry() bool { return y.starting.Load() || y.hurried.Load() > 0 }

// file wraps a file that is being created.
func (y *yielding) file(f vfs.File, what vfs.DiskWriteCategory) vfs.File {
	switch what {
	case flushFile:
		return &yieldingFile{f, (&pace{of: y.flushRest, since: time.Now()}).rest}
	case compactionFile:
		return &yieldingFile{f, (&pace{of: y.compactionRest, since: time.Now()}).rest}
	}
	return f
}

// listen counts flushes in and out of level 0.
func (y *yielding) listen(l *pebble.EventListener) {
	l.FlushBegin = func(pebble.FlushInfo) { y.written.Store(0) }
	l.WriteStallBegin = func(pebble.WriteStallBeginInfo) { y.hurried.Add(1) }
	l.WriteStallEnd = func() { y.hurried.Add(-1) }
	l.FlushEnd = func(i pebble.FlushInfo) {
		if i.Err == nil && !i.Ingest {
			y.waiting.Add(1)
		}
	}
	l.CompactionBegin = func(i pebble.CompactionInfo) {
		if len(i.Input) > 0 && i.Input[0].Level == 0 {
			y.waiting.Store(0)
		}
	}
}

// yieldingFile calls way before each write. Tables are written a few KiB at a time.
type yieldingFile struct {
	vfs.File
	way func()
}

// Write implements vfs.File.
func (f *yieldingFile) Write(b []byte) (int, error) {
	f.way()
	return f.File.Write(b)
}

// pace is of one file, and used by one goroutine.
type pace struct {
	of    func(worked time.Duration) time.Duration
	since time.Time
}

func (p *pace) rest() {
	d := p.of(time.Since(p.since))
	if d == 0 {
		runtime.Gosched()
		return
	}
	<-time.After(d)
	p.since = time.Now()
}

// compactionRest is how long a compaction rests that has worked for so long. 0: not yet, or not at all.
func (y *yielding) compactionRest(worked time.Duration) time.Duration {
	waiting := y.waiting.Load()
	if worked < paceAfter || y.hurry() || waiting >= paceBelow {
		return 0
	}
	return time.Duration(max(1, compactionRests-flushCosts*waiting)) * min(worked, paceMost)
}

// flushRest is how long a flush rests, likewise.
func (y *yielding) flushRest(worked time.Duration) time.Duration {
	left := y.memtable/flushShare - y.written.Load()
	if worked < paceAfter || y.hurry() || left <= 0 {
		return 0
	}
	return min(worked, paceMost) * flushRests * time.Duration(left) / time.Duration(y.memtable/flushShare)
}
