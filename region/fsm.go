package region

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// fsm brings Raft's entries to the machine.
type fsm struct {
	*machine.Machine
	flush func() error       // makes the state durable, in a while
	tell  func([]wire.Event) // those who watch
	fatal func(error)        // the disk failed: stop the process rather than guess
	// fetch replaces the state by that of another node, which has applied at least that index.
	fetch func(index uint64) error
	// strayed ends the node if the region has gone on without something of its state, and returns why.
	strayed func(index uint64) error
	// evicted ends the node if its region was given up while it was away, and the node holds what nobody else has.
	evicted func()
	// unstage removes what a transfer that was cut short has staged: it is called once the log has brought an entry. nil: there is nothing.
	unstage func() error
	held    uint64 // the last entry in the log when the node started: up to it, entries are replayed

	broken error // owned by Raft's apply goroutine
}

// Apply implements raft.FSM. It returns []machine.Result, one per command, or an error after which nothing is applied
// any more on this node.
func (m *fsm) Apply(l *raft.Log) any {
	if m.broken != nil {
		return m.broken
	}
	if m.unstage != nil && l.Index > m.held {
		if err := m.unstage(); err != nil {
			m.broken = err
			m.fatal(err)
			return err
		}
		m.unstage = nil
	}
	results, err := m.Machine.Apply(l.Index, l.Data, l.Index <= m.held)
	if err != nil {
		m.broken = err
		m.fatal(err)
		return err
	}
	if m.Fenced() {
		m.evicted()
	}
	return results
}

// Snapshot implements raft.FSM. The state is in Pebble; the snapshot only names how far it has come.
func (m *fsm) Snapshot() (raft.FSMSnapshot, error) { return reference{m.flush, m.Applied()}, nil }

// reference is a Raft snapshot: the index that Pebble holds.
type reference struct {
	flush func() error
	index uint64
}

// Persist makes Pebble durable through the index before the snapshot is published: only then may the log go.
func (r reference) Persist(sink raft.SnapshotSink) error {
	if err := r.flush(); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if _, err := sink.Write(binary.BigEndian.AppendUint64(nil, r.index)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (reference) Release() {}

// Restore implements raft.FSM. The snapshot only names an index: the state itself is fetched from a node that has it.
func (m *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	index, err := readReference(r)
	if err != nil {
		return err
	}
	if m.Applied() >= index {
		return m.strayed(index)
	}
	if err := m.fetch(index); err != nil {
		return fmt.Errorf("fetch the state of the region: %w", err)
	}
	if err := m.Load(); err != nil {
		m.broken = err
		m.fatal(err)
		return err
	}
	m.tell([]wire.Event{{Reset: true}})
	return nil
}

func readReference(r io.Reader) (index uint64, err error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("raft snapshot: %w", err)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// everyGroup watches the events of all groups.
const everyGroup = -1

// watchers are told of every event of their group, in apply order.
type watchers struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*watcher]
}

type watcher struct {
	group int
	fn    func([]wire.Event)
}

func newWatchers() *watchers {
	w := &watchers{}
	w.list.Store(&[]*watcher{})
	return w
}

func (w *watchers) add(group int, fn func([]wire.Event)) (stop func()) {
	one := &watcher{group, fn}
	w.change(func(l []*watcher) []*watcher { return append(l, one) })
	return func() {
		w.change(func(l []*watcher) []*watcher {
			return slices.DeleteFunc(l, func(o *watcher) bool { return o == one })
		})
	}
}

func (w *watchers) change(edit func([]*watcher) []*watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := edit(slices.Clone(*w.list.Load()))
	w.list.Store(&l)
}

// tell tells who watches of what the group has applied.
func (g *group) tell(events []wire.Event) {
	for _, w := range *g.r.watch.list.Load() {
		if w.group == everyGroup || w.group == g.n {
			w.fn(events)
		}
	}
}
