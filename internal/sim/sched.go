package sim

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cespare/xxhash/v2"
)

// epoch is when every run begins.
var epoch = time.UnixMilli(1_700_000_000_000)

// sched is virtual time: events in the order of their time, those of one time in the order they were planned.
type sched struct {
	now    time.Duration // since epoch
	events events
	next   uint64
	steps  int
	still  int            // steps since time has passed
	hash   *xxhash.Digest // of all that happens
	story  func(at time.Duration, line string)
}

type event struct {
	at   time.Duration
	n    uint64
	fn   func()
	done bool
}

type events []*event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *events) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newSched() *sched { return &sched{hash: xxhash.New()} }

// after plans fn, and returns what cancels it.
func (s *sched) after(d time.Duration, fn func()) *event {
	e := &event{at: s.now + max(d, 0), n: s.next, fn: fn}
	s.next++
	heap.Push(&s.events, e)
	return e
}

// cancel reports whether the event had not happened yet.
func (e *event) cancel() bool {
	if e == nil || e.done {
		return false
	}
	e.done = true
	e.fn = nil
	return true
}

// run lets time pass until a moment, or until there is nothing to wait for.
func (s *sched) run(until time.Duration, stop func() bool) {
	for len(s.events) > 0 && s.events[0].at <= until && !stop() {
		e := heap.Pop(&s.events).(*event)
		if e.done {
			continue
		}
		e.done = true
		if s.still++; e.at > s.now {
			s.now, s.still = e.at, 0
		}
		s.steps++
		e.fn()
	}
	if !stop() {
		s.now = max(s.now, until)
	}
}

// time is the true time: what a clock without skew shows.
func (s *sched) time() time.Time { return epoch.Add(s.now) }

// note adds to the hash of the run that something happened, and to its story if one is told.
func (s *sched) note(kind string, a, b uint64) {
	var n [24]byte
	binary.LittleEndian.PutUint64(n[:], uint64(s.now))
	binary.LittleEndian.PutUint64(n[8:], a)
	binary.LittleEndian.PutUint64(n[16:], b)
	s.hash.WriteString(kind)
	s.hash.Write(n[:])
}

func (s *sched) noteBytes(kind string, b []byte) { s.note(kind, xxhash.Sum64(b), uint64(len(b))) }

// tell adds a line to the story.
func (s *sched) tell(format string, args ...any) {
	if s.story != nil {
		s.story(s.now, fmt.Sprintf(format, args...))
	}
}

// dice is randomness of its own for a purpose: what one draws does not change what others draw.
func dice(seed uint64, purpose string) *rand.Rand {
	return rand.New(rand.NewPCG(seed, xxhash.Sum64String(purpose)))
}

// between draws a duration.
func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(r.Int64N(int64(hi-lo)+1))
}
