package memnet

import (
	"sync"
	"time"
)

// Cut says what is wrong with a link.
type Cut int

const (
	// Open: nothing.
	Open Cut = iota
	// Stall: nothing arrives and nothing fails; connections go on after the cut with what was in flight.
	Stall
	// Break: connections fail at once, and dials are refused.
	Break
)

// pair names a link: what goes from one region to another.
type pair struct{ from, to string }

// link is one direction between two regions.
type link struct {
	mu      sync.Mutex
	shape   Shape
	cut     Cut
	changed chan struct{} // closed and replaced when anything above changes
	free    time.Time     // when what was sent has left, if the rate is limited
	count   Count
}

func newLink(delay time.Duration) *link {
	return &link{shape: Shape{Delay: delay}, changed: make(chan struct{})}
}

// state returns how the link is and a channel that is closed when that is no longer so.
func (l *link) state() (time.Duration, Cut, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shape.Delay, l.cut, l.changed
}

func (l *link) set(change func(*link)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
	close(l.changed)
	l.changed = make(chan struct{})
}

// deadline is a moment after which its channel is closed. The zero value is never reached once init was called.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	round   uint64 // tells a timer that has fired late that it no longer counts
	passed  bool
	expired chan struct{}
}

// wait returns a channel that is closed when the deadline has passed.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expired == nil {
		d.expired = make(chan struct{})
	}
	return d.expired
}

// set moves the deadline; the zero time takes it away.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.round++
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.expired == nil || d.passed {
		d.expired, d.passed = make(chan struct{}), false
	}
	if t.IsZero() {
		return
	}
	round := d.round
	d.timer = time.AfterFunc(time.Until(t), func() { d.pass(round) })
}

func (d *deadline) pass(round uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if round == d.round && !d.passed {
		d.passed = true
		close(d.expired)
	}
}
