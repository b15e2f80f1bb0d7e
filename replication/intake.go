package replication

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// minIntake and maxIntake bound the records that are being committed at a time.
	minIntake, maxIntake = 128, 8192
	// intakeStep is by how many more they are, for each commit that was fast.
	intakeStep = 32
	// intakeSlack is how much longer than the fastest commits lately one may take; beyond, there are fewer at a time.
	intakeSlack = 6 * time.Millisecond
	// baseFor is how long a fastest commit counts as that: disks get slower, and faster.
	baseFor = 10 * time.Second
)

// intake bounds the records of other regions that wait in the region's log to be committed, so that what clients put does not wait behind
// them: a region that comes back may have a million. The bound follows how long commits take: while they take about as long as
// the fastest, more are let in. Who waits is let in in order, what clients wait for before others.
type intake struct {
	mu      sync.Mutex // guards what follows
	window  int
	flying  int
	waiting []*entrant    // first of all those that go first
	base    time.Duration // of the fastest commit
	since   time.Time     // when base was set
}

type entrant struct {
	n     int
	first bool
	open  chan struct{} // closed when it may go
}

// enter waits until n records may be committed; first: before others that wait.
func (i *intake) enter(ctx context.Context, n int, first bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	i.mu.Lock()
	i.window = max(i.window, minIntake)
	if len(i.waiting) == 0 && i.fits(n) {
		i.flying += n
		i.mu.Unlock()
		return nil
	}
	e := &entrant{n, first, make(chan struct{})}
	at := len(i.waiting)
	if first {
		at, _ = slices.BinarySearchFunc(i.waiting, 0, func(o *entrant, _ int) int {
			if o.first {
				return -1
			}
			return 1
		})
	}
	i.waiting = slices.Insert(i.waiting, at, e)
	i.admit()
	i.mu.Unlock()
	select {
	case <-e.open:
		return nil
	case <-ctx.Done():
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for at, o := range i.waiting {
		if o == e {
			i.waiting = append(i.waiting[:at], i.waiting[at+1:]...)
			return ctx.Err()
		}
	}
	i.flying -= n // it was let in meanwhile
	i.admit()
	return ctx.Err()
}

// admit lets in who waits, as far as there is room. mu is held.
func (i *intake) admit() {
	for len(i.waiting) > 0 && i.fits(i.waiting[0].n) {
		i.flying += i.waiting[0].n
		close(i.waiting[0].open)
		i.waiting = i.waiting[1:]
	}
}

// fits reports whether there is room for n records. mu is held.
func (i *intake) fits(n int) bool { return i.flying == 0 || i.flying+n <= i.window }

// leave ends what enter began: n records were committed, which took so long.
func (i *intake) leave(n int, took time.Duration, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.flying -= n
	if i.base == 0 || took < i.base || now.Sub(i.since) > baseFor {
		i.base, i.since = took, now
	}
	if took > 2*i.base+intakeSlack {
		i.window = max(minIntake, i.window-i.window/16)
	} else if i.flying+n >= i.window/2 { // it is used
		i.window = min(maxIntake, i.window+intakeStep)
	}
	i.admit()
}
