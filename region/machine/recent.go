package machine

import (
	"maps"
	"sync/atomic"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

const (
	// recentBytes bounds what a machine has at hand of the last records, by default: at 10,000 ops of 400 bytes a second, of the last second.
	recentBytes = 4 << 20
	// recentChunk is what the memory for them grows by; what is larger than a quarter gets memory of its own. So much more than the bound may be
	// held, since a chunk goes when all that is in it has gone.
	recentChunk = 64 << 10
	// runCost is about what a run takes beside its records, and recordCost each of these.
	runCost, recordCost = 128, 24
)

// recent has the last records of all feeds at hand, as the store has them: each is sent to every other region right after it was committed, and to find
// it in the store costs more than to apply it. Runs of records are added when they are in the store, never change, and the oldest go when they are too many.
// One goroutine applies, and adds and forgets; any may read, and reaches runs by atomic pointers: so who applies waits for nobody.
type recent struct {
	feeds [crdt.Partitions]atomic.Pointer[map[crdt.OriginID]*tail] // replaced, never changed

	// owned by who applies
	oldest, newest *run // in the order in which they were added
	bytes, bound   int
	chunk          []byte // what is free of it is behind its end
}

// tail is the end of a feed.
type tail struct {
	last  atomic.Pointer[run] // nil: none is at hand
	floor atomic.Uint64       // records up to there do not count any more
}

// run is what an entry adds to a feed.
type run struct {
	from    uint64
	records [][]byte            // each after its running hash
	older   atomic.Pointer[run] // what comes before it in the feed; nil: that is not at hand

	// owned by who applies
	tail  *tail
	newer *run // what comes after it in the feed
	next  *run // what was added after it
	bytes int
}

// last is the f of the last record.
func (r *run) last() uint64 { return r.from + uint64(len(r.records)) - 1 }

func newRecent(bound int) *recent { return &recent{bound: bound} }

// room returns an empty slice that n bytes fit into. What is put there may be read for ever.
func (r *recent) room(n int) []byte {
	if n > recentChunk/4 {
		return make([]byte, 0, n)
	}
	if cap(r.chunk)-len(r.chunk) < n {
		r.chunk = make([]byte, 0, recentChunk)
	}
	at := len(r.chunk)
	r.chunk = r.chunk[:at+n]
	return r.chunk[at : at : at+n]
}

// of returns the end of a feed, nil if nothing was ever added to it.
func (r *recent) of(f feed) *tail {
	if m := r.feeds[f.p].Load(); m != nil {
		return (*m)[f.id]
	}
	return nil
}

// tailOf is of, and makes one if there is none.
func (r *recent) tailOf(f feed) *tail {
	if t := r.of(f); t != nil {
		return t
	}
	all := map[crdt.OriginID]*tail{}
	if m := r.feeds[f.p].Load(); m != nil {
		all = maps.Clone(*m)
	}
	t := &tail{}
	all[f.id] = t
	r.feeds[f.p].Store(&all)
	return t
}

// add takes a run that is in the store.
func (r *recent) add(f feed, added *run) {
	t := r.tailOf(f)
	added.tail, added.bytes = t, runCost
	for _, b := range added.records {
		added.bytes += recordCost + len(b)
	}
	if before := t.last.Load(); before != nil && before.last()+1 == added.from {
		before.newer = added
		added.older.Store(before)
	}
	t.last.Store(added)
	if r.newest == nil {
		r.oldest = added
	} else {
		r.newest.next = added
	}
	r.newest = added
	for r.bytes += added.bytes; r.bytes > r.bound; {
		r.forget()
	}
}

// forget lets the oldest run go.
func (r *recent) forget() {
	old := r.oldest
	if old.newer != nil {
		old.newer.older.Store(nil)
	} else if old.tail.last.Load() == old {
		old.tail.last.Store(nil)
	}
	r.bytes -= old.bytes
	if r.oldest = old.next; r.oldest == nil {
		r.newest = nil
	}
	old.newer, old.next = nil, nil // who still reads it keeps no others
}

// lift forgets the records of a feed up to its new floor.
func (r *recent) lift(f feed, floor uint64) {
	if t := r.of(f); t != nil {
		t.floor.Store(floor)
	}
}

// clear forgets all.
func (r *recent) clear() {
	for p := range r.feeds {
		r.feeds[p].Store(nil)
	}
	r.oldest, r.newest, r.bytes = nil, nil, 0
}

// read appends what is at hand of a feed from rs.From on up to head, at least one record and up to maxBytes; false: the store has to be asked.
func (r *recent) read(rs *wire.Records, f feed, head uint64, maxBytes int) bool {
	t := r.of(f)
	if t == nil || rs.From <= t.floor.Load() {
		return false
	}
	var room [8]*run
	runs := room[:0]
	for at := t.last.Load(); at != nil; at = at.older.Load() {
		if runs = append(runs, at); at.from <= rs.From {
			break
		}
	}
	if len(runs) == 0 || runs[len(runs)-1].from > rs.From {
		return false
	}
	size := 0
	for i := len(runs) - 1; i >= 0; i-- {
		for n, b := range runs[i].records {
			f := runs[i].from + uint64(n)
			if f < rs.From {
				continue
			}
			if size += len(b); f > head || size > maxBytes && len(rs.Records) > 0 {
				return len(rs.Records) > 0
			}
			rs.Hash = wire.Hash(b[:len(rs.Hash)])
			rs.Records = append(rs.Records, b[len(rs.Hash):])
		}
	}
	return len(rs.Records) > 0
}
