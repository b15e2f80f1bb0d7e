package memnet

import (
	"net"
	"os"
	"sync"
	"time"
)

const (
	// laneBytes bounds what is under way in one direction of a connection. A full lane blocks who writes, as a full
	// TCP window does; a single segment may exceed it.
	laneBytes = 4 << 20
	// segmentBytes bounds one segment.
	segmentBytes = 64 << 10
)

// segment is what becomes readable at one moment: bytes, or the end of the stream.
type segment struct {
	due time.Time
	b   []byte
	end error
}

// lane carries one direction of a connection: what is put in can be taken out after the link's delay.
type lane struct {
	link *link

	mu      sync.Mutex
	queue   []segment
	bytes   int
	last    time.Time // due time of the newest segment: a shorter delay never overtakes
	failed  error     // set once; what is queued is lost
	ended   bool      // nothing can be put in any more; what is queued still arrives
	changed chan struct{}
}

func newLane(l *link) *lane { return &lane{link: l, changed: make(chan struct{})} }

// signal wakes who waits. Holding mu.
func (q *lane) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// put queues a copy of b, of at most segmentBytes, once there is room. It returns net.ErrClosed after end, the error
// of fail, and os.ErrDeadlineExceeded when expired is closed first.
func (q *lane) put(b []byte, expired <-chan struct{}) error {
	if isClosed(expired) {
		return os.ErrDeadlineExceeded
	}
	for {
		q.mu.Lock()
		switch {
		case q.failed != nil:
			q.mu.Unlock()
			return q.failed
		case q.ended:
			q.mu.Unlock()
			return net.ErrClosed
		case q.bytes < laneBytes:
			q.push(segment{due: q.link.stream(time.Now(), len(b)), b: append([]byte(nil), b...)})
			q.mu.Unlock()
			return nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-expired:
			return os.ErrDeadlineExceeded
		}
	}
}

// push appends a segment. Holding mu.
func (q *lane) push(s segment) {
	if s.due.Before(q.last) {
		s.due = q.last
	}
	q.last = s.due
	q.bytes += len(s.b)
	q.queue = append(q.queue, s)
	q.signal()
}

// end lets the queue run out: after the last byte, and the delay, take returns err.
func (q *lane) end(err error) {
	delay, _, _ := q.link.state()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.failed != nil {
		return
	}
	q.ended = true
	q.push(segment{due: time.Now().Add(delay), end: err})
}

// fail ends the lane at once, on both sides.
func (q *lane) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed == nil {
		q.failed, q.queue, q.bytes = err, nil, 0
		q.signal()
	}
}

// over says whether nothing can be put in any more, and what is closed when that may have changed.
func (q *lane) over() (bool, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ended || q.failed != nil, q.changed
}

// take moves into p what has arrived, waiting for the first byte.
func (q *lane) take(p []byte, expired <-chan struct{}) (int, error) {
	if isClosed(expired) {
		return 0, os.ErrDeadlineExceeded
	}
	for {
		_, cut, moved := q.link.state()
		q.mu.Lock()
		wait, arrived := q.head(cut)
		if arrived {
			n, err := q.pop(p)
			q.mu.Unlock()
			return n, err
		}
		changed := q.changed
		q.mu.Unlock()
		if !await(wait, changed, moved, expired) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// head says whether the first segment can be taken, and if not when; wait is 0 if that depends on more than time.
// Holding mu.
func (q *lane) head(cut Cut) (wait time.Duration, arrived bool) {
	switch {
	case q.failed != nil:
		return 0, true
	case len(q.queue) == 0 || cut != Open:
		return 0, false
	}
	wait = time.Until(q.queue[0].due)
	return wait, wait <= 0
}

// pop takes from the first segment. Holding mu.
func (q *lane) pop(p []byte) (int, error) {
	if q.failed != nil {
		return 0, q.failed
	}
	s := &q.queue[0]
	if s.end != nil {
		return 0, s.end // stays: every later take ends as well
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	q.bytes -= n
	if len(s.b) == 0 {
		q.queue[0] = segment{}
		q.queue = q.queue[1:]
	}
	q.signal()
	return n, nil
}

// await waits for one of three, or for d if it is above 0; it is false if that one is expired.
func await(d time.Duration, changed, moved, expired <-chan struct{}) bool {
	var timeout <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-changed:
	case <-moved:
	case <-timeout:
	case <-expired:
		return false
	}
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
