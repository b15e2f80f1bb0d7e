package region

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// machine is the replicated state machine: it applies Raft's entries to Pebble.
type machine struct {
	db     *pebble.DB
	region string
	entry  string // marks the puts that entered by this process
	watch  *watchers
	fatal  func(error) // the disk failed: stop the process rather than guess
	// fetch replaces the state by that of another node, which has applied at least that index.
	fetch  func(index uint64) error
	tracer trace.Tracer
	held   uint64 // the last entry in the log when the node started: up to it, entries are replayed

	// owned by Raft's apply goroutine
	names  map[crdt.OriginID]crdt.Origin
	broken error

	// published after each commit, read by anyone
	applied atomic.Uint64
	self    atomic.Pointer[crdt.Origin]
	cursors [crdt.Partitions]atomic.Pointer[crdt.Vector]
	stamp   atomic.Uint64
	origins atomic.Pointer[[]crdt.Origin]
}

// load reads what is published and owned from the database.
func (m *machine) load() error {
	m.names = map[crdt.OriginID]crdt.Origin{}
	if m.self.Load() == nil {
		none := crdt.Origin("")
		m.self.Store(&none)
	}
	if err := m.loadMeta(); err != nil {
		return err
	}
	m.publishOrigins()
	var cursors [crdt.Partitions]crdt.Vector
	for p := range cursors {
		cursors[p] = crdt.Vector{}
	}
	err := scan(m.db, []byte{spaceCursor}, []byte{spaceCursor + 1}, func(k, v []byte) error {
		cursors[k[1]][crdt.OriginID(binary.BigEndian.Uint32(k[2:]))] = decodePosition(v).F
		return nil
	})
	for p := range cursors {
		m.cursors[p].Store(&cursors[p])
	}
	return err
}

func (m *machine) loadMeta() error {
	for name, use := range map[string]func([]byte){
		metaApplied: func(v []byte) { m.applied.Store(binary.BigEndian.Uint64(v)) },
		metaStamp:   func(v []byte) { m.stamp.Store(binary.BigEndian.Uint64(v)) },
		metaSelf:    func(v []byte) { self := crdt.Origin(v); m.self.Store(&self) },
	} {
		v, err := get(m.db, metaKey(name))
		if err != nil {
			return err
		}
		if v != nil {
			use(v)
		}
	}
	lo := metaKey(metaOrigin)
	return scan(m.db, lo, upper(lo), func(k, v []byte) error {
		m.names[crdt.OriginID(binary.BigEndian.Uint32(k[len(lo):]))] = crdt.Origin(v)
		return nil
	})
}

// upper is the end of the range of keys that start with prefix.
func upper(prefix []byte) []byte {
	hi := append([]byte{}, prefix...)
	hi[len(hi)-1]++
	return hi
}

func scan(r pebble.Reader, lo, hi []byte, visit func(k, v []byte) error) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := visit(it.Key(), it.Value()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

func (m *machine) id(o crdt.Origin) crdt.OriginID {
	for id, name := range m.names {
		if name == o {
			return id
		}
	}
	return o.ID()
}

// Apply implements raft.FSM. It returns []result, one per command, or an error after which nothing is applied any
// more on this node.
func (m *machine) Apply(l *raft.Log) any {
	if m.broken != nil {
		return m.broken
	}
	if l.Index <= m.applied.Load() || len(l.Data) == 0 { // applied, or a nudge
		return nil
	}
	results, err := m.applyEntry(l)
	if err != nil {
		m.broken = fmt.Errorf("apply entry %d: %w", l.Index, err)
		m.fatal(m.broken)
		return m.broken
	}
	return results
}

func (m *machine) applyEntry(l *raft.Log) ([]result, error) {
	cmds, err := decodeEntry(l.Data)
	if err != nil {
		return nil, err
	}
	s := &step{
		m: m, b: m.db.NewIndexedBatch(), self: *m.self.Load(), stamp: crdt.Stamp(m.stamp.Load()), replayed: l.Index <= m.held,
		cursors: map[uint8]crdt.Vector{}, heads: map[feed]wire.Position{}, digests: map[uint8]*uint64{},
	}
	defer s.b.Close()
	for _, c := range cmds {
		s.run(c)
	}
	return s.results, m.commit(s, l.Index)
}

// commit makes a step the state, all at once, and then tells whoever watches.
func (m *machine) commit(s *step, index uint64) error {
	for p, d := range s.digests {
		s.set(partitionKey(spaceDigest, p), binary.BigEndian.AppendUint64(nil, *d))
	}
	s.set(metaKey(metaApplied), binary.BigEndian.AppendUint64(nil, index))
	s.set(metaKey(metaStamp), binary.BigEndian.AppendUint64(nil, uint64(s.stamp)))
	if s.err != nil {
		return s.err
	}
	if err := s.b.Commit(pebble.NoSync); err != nil {
		return err
	}
	m.stamp.Store(uint64(s.stamp))
	if s.self != *m.self.Load() {
		m.self.Store(&s.self)
	}
	for p, v := range s.cursors {
		m.cursors[p].Store(&v)
	}
	if len(m.names) != len(*m.origins.Load()) {
		m.publishOrigins()
	}
	s.spans.end(nil)
	m.watch.tell(s.events)
	m.applied.Store(index) // after the telling: who sees the index has been told
	return nil
}

func (m *machine) publishOrigins() {
	all := make([]crdt.Origin, 0, len(m.names))
	for _, o := range m.names {
		all = append(all, o)
	}
	m.origins.Store(&all)
}

// Snapshot implements raft.FSM. The state is in Pebble; the snapshot only names how far it has come.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return reference{m.db, m.applied.Load()}, nil }

// reference is a Raft snapshot: the index that Pebble holds.
type reference struct {
	db    *pebble.DB
	index uint64
}

// Persist makes Pebble durable through the index before the snapshot is published: only then may the log go.
func (r reference) Persist(sink raft.SnapshotSink) error {
	if err := r.db.Flush(); err != nil {
		return errors.Join(fmt.Errorf("flush state: %w", err), sink.Cancel())
	}
	if _, err := sink.Write(binary.BigEndian.AppendUint64(nil, r.index)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (reference) Release() {}

// Restore implements raft.FSM. The snapshot only names an index: the state itself is fetched from a node that has it.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	index, err := readReference(r)
	if err != nil || m.applied.Load() >= index {
		return err
	}
	if err := m.fetch(index); err != nil {
		return fmt.Errorf("fetch the state of the region: %w", err)
	}
	if err := m.load(); err != nil {
		m.broken = err
		m.fatal(err)
		return err
	}
	m.watch.tell([]wire.Event{{Reset: true}})
	return nil
}

func readReference(r io.Reader) (index uint64, err error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("raft snapshot: %w", err)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// watchers are told of every event, in apply order.
type watchers struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*func([]wire.Event)]
}

func newWatchers() *watchers {
	w := &watchers{}
	w.list.Store(&[]*func([]wire.Event){})
	return w
}

func (w *watchers) add(fn func([]wire.Event)) (stop func()) {
	w.change(func(l []*func([]wire.Event)) []*func([]wire.Event) { return append(l, &fn) })
	return func() {
		w.change(func(l []*func([]wire.Event)) []*func([]wire.Event) {
			kept := l[:0]
			for _, f := range l {
				if f != &fn {
					kept = append(kept, f)
				}
			}
			return kept
		})
	}
}

func (w *watchers) change(edit func([]*func([]wire.Event)) []*func([]wire.Event)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := edit(append([]*func([]wire.Event){}, *w.list.Load()...))
	w.list.Store(&l)
}

func (w *watchers) tell(events []wire.Event) {
	if len(events) == 0 {
		return
	}
	for _, fn := range *w.list.Load() {
		(*fn)(events)
	}
}
