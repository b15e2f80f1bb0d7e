package dispatch

import (
	"sync"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// maxDirty bounds the sessions that changed since the outbox last looked. When it is full the outbox reads all open
// answers from the state instead.
const maxDirty = 65_536

// inbox collects what the outbox has to look at. Its methods do not block.
type inbox struct {
	wake chan struct{} // holds one token while there is something

	mu       sync.Mutex // guards what follows
	dirty    map[string]struct{}
	overflow bool
	force    *workforce // news of the workers, if any

	traced *traced
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), dirty: map[string]struct{}{}, traced: newTraced()}
}

func (b *inbox) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// watch is called by the region after commits.
func (b *inbox) watch(events []wire.Event) {
	for _, e := range events {
		if e.Merged {
			b.add(e.Session)
		}
		for i := range e.Changes {
			if c := &e.Changes[i]; c.Op.Trace != nil {
				b.traced.watch(c)
			}
		}
		for _, c := range e.Changes {
			if concerns(c.Op) {
				b.add(e.Session)
				break
			}
		}
	}
}

// concerns reports whether an op can change what is to be done about an answer. Pieces cannot: they put the end of
// the lease off, which is read again when it would have come.
func concerns(op *crdt.Op) bool {
	switch op.Kind {
	case crdt.KindMsg:
		return len(op.Models) > 0 || len(op.Runs) > 0
	case crdt.KindRun, crdt.KindStop, crdt.KindBegin, crdt.KindDone:
		return true
	}
	return false
}

func (b *inbox) add(session string) {
	b.mu.Lock()
	if len(b.dirty) < maxDirty {
		b.dirty[session] = struct{}{}
	} else {
		b.overflow = true
	}
	b.mu.Unlock()
	b.poke()
}

func (b *inbox) workers(w workforce) {
	b.mu.Lock()
	b.force = &w
	b.mu.Unlock()
	b.poke()
}

// pending reports whether there is something to take.
func (b *inbox) pending() bool { return len(b.wake) > 0 }

// take empties the inbox.
func (b *inbox) take() (dirty map[string]struct{}, overflow bool, force *workforce) {
	select {
	case <-b.wake: // before the rest is emptied: what comes later wakes again
	default:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	dirty, overflow, force = b.dirty, b.overflow, b.force
	b.dirty, b.overflow, b.force = map[string]struct{}{}, false, nil
	return dirty, overflow, force
}
