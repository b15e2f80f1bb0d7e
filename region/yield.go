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
	// A compaction that has worked for paceAfter rests as long, unless paceBelow flushes wait in level 0: reads look at each of them, and at l0Most
	// Pebble stops writes.
	paceAfter = 500 * time.Microsecond
	paceBelow = l0Files
	// paceMost bounds what is taken for work: the rest was waiting for a processor.
	paceMost = 2 * time.Millisecond
)

// yielding makes way for clients in Pebble's background work. A goroutine that computes holds its processor for 10 ms before the scheduler takes it away, and an entry
// passes a dozen goroutines on its way: with a flush or a compaction on every processor it would wait at each.
type yielding struct {
	waiting atomic.Int64 // flushes that no compaction has begun to take out of level 0
}

// file wraps a file that is being created.
func (y *yielding) file(f vfs.File, what vfs.DiskWriteCategory) vfs.File {
	switch what {
	case flushFile:
		return &yieldingFile{f, runtime.Gosched}
	case compactionFile:
		return &yieldingFile{f, (&pace{y: y, since: time.Now()}).rest}
	}
	return f
}

// listen counts flushes in and out of level 0.
func (y *yielding) listen(l *pebble.EventListener) {
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

// pace is of one file of a compaction, and used by one goroutine.
type pace struct {
	y     *yielding
	since time.Time
}

func (p *pace) rest() {
	d := p.y.rest(time.Since(p.since))
	if d == 0 {
		runtime.Gosched()
		return
	}
	<-time.After(d)
	p.since = time.Now()
}

// rest is how long a compaction rests that has worked for so long. 0: not yet, or not at all.
func (y *yielding) rest(worked time.Duration) time.Duration {
	if worked < paceAfter || y.waiting.Load() >= paceBelow {
		return 0
	}
	return min(worked, paceMost)
}
