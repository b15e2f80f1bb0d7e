package machine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// Config says whose machine it is.
type Config struct {
	Region string
	Entry  string             // marks the puts that entered by this process
	Store  Store              // holds the state
	Watch  func([]wire.Event) // is told of every event, in order, as part of Apply; nil: nobody is
	Tracer trace.Tracer       // nil: no spans
	Level  uint32             // the newest format of an entry that it applies; 0: FeatureLevel
	// SessionBytes bounds the memory for what is remembered of sessions that are not hot, and up to half as much again for where it is. 0: none is.
	SessionBytes int
	RecentBytes  int // bounds the memory for the last records of feeds, but for 64 KiB more. 0: 4 MiB
	HotSessions  int // how many sessions are at hand with all that changed in place, in each of two generations; 0: 4,096
}

// Machine is a region's replicated state machine on one node. One goroutine applies; all else may be called by any.
type Machine struct {
	cfg Config

	// owned by who applies
	names      map[crdt.OriginID]crdt.Origin
	hot        *hot     // of sessions
	positions  elements // cursors, digests and the like
	mem        arena    // of the entry that is being applied
	idle       idle
	op, record []byte          // as encoded last
	opened     []*sessionStore // room for those of an entry

	recent *recent // of feeds; who applies changes it

	// published after each commit, read by anyone
	applied atomic.Uint64
	self    atomic.Pointer[crdt.Origin]
	cursors [crdt.Partitions]atomic.Pointer[crdt.Vector]
	stamp   atomic.Uint64
	origins atomic.Pointer[[]crdt.Origin]
	size    atomic.Uint32 // see Size
	level   atomic.Uint32 // see Level
	// finals and evictions are replaced, never changed
	finals    [crdt.Partitions]atomic.Pointer[crdt.Finals]
	evictions atomic.Pointer[crdt.Evictions]
}

// New reads a machine's state.
func New(cfg Config) (*Machine, error) {
	if cfg.Level == 0 {
		cfg.Level = FeatureLevel
	}
	if cfg.HotSessions == 0 {
		cfg.HotSessions = hotSessions
	}
	if cfg.RecentBytes == 0 {
		cfg.RecentBytes = recentBytes
	}
	m := &Machine{cfg: cfg, recent: newRecent(cfg.RecentBytes)}
	none := crdt.Origin("")
	m.self.Store(&none)
	return m, m.Load()
}

// Load reads the state anew, after it was replaced as a whole.
func (m *Machine) Load() error {
	m.recent.clear()
	m.names, m.hot, m.positions = map[crdt.OriginID]crdt.Origin{}, newHot(m.cfg.HotSessions, newCold(m.cfg.SessionBytes)), elements{}
	if err := m.loadMeta(); err != nil {
		return err
	}
	m.publishOrigins()
	if err := m.loadFinals(); err != nil {
		return err
	}
	var cursors [crdt.Partitions]crdt.Vector
	for p := range cursors {
		cursors[p] = crdt.Vector{}
	}
	err := m.cfg.Store.Scan([]byte{spaceCursor}, []byte{spaceCursor + 1}, false, func(k, v []byte) bool {
		cursors[k[1]][crdt.OriginID(binary.BigEndian.Uint32(k[2:]))] = decodePosition(v).F
		return true
	})
	for p := range cursors {
		m.cursors[p].Store(&cursors[p])
	}
	return err
}

func (m *Machine) loadMeta() error {
	for name, use := range map[string]func([]byte){
		metaApplied: func(v []byte) { m.applied.Store(binary.BigEndian.Uint64(v)) },
		metaStamp:   func(v []byte) { m.stamp.Store(binary.BigEndian.Uint64(v)) },
		metaSelf:    func(v []byte) { self := crdt.Origin(v); m.self.Store(&self) },
		metaSize:    func(v []byte) { m.size.Store(binary.BigEndian.Uint32(v)) },
		metaLevel:   func(v []byte) { m.level.Store(binary.BigEndian.Uint32(v)) },
	} {
		v, err := m.cfg.Store.Get(MetaKey(name))
		if err != nil {
			return err
		}
		if v != nil {
			use(v)
		}
	}
	if m.Level() > m.cfg.Level {
		return fmt.Errorf("the region is at feature level %d, and this version applies up to %d: install the newer one", m.Level(), m.cfg.Level)
	}
	lo := MetaKey(metaOrigin)
	return m.cfg.Store.Scan(lo, upper(lo), false, func(k, v []byte) bool {
		m.names[crdt.OriginID(binary.BigEndian.Uint32(k[len(lo):]))] = crdt.Origin(v)
		return true
	})
}

// upper is the end of the range of keys that start with prefix.
func upper(prefix []byte) []byte {
	hi := append([]byte{}, prefix...)
	hi[len(hi)-1]++
	return hi
}

func (m *Machine) id(o crdt.Origin) crdt.OriginID {
	for id, name := range m.names {
		if name == o {
			return id
		}
	}
	return o.ID()
}

// Apply applies the entry at an index of the log, once: one that was applied before is nil. replayed says that this
// node has applied it in an earlier life. It returns a result for each command. After an error the state is as before,
// and nothing may be applied any more.
func (m *Machine) Apply(index uint64, entry []byte, replayed bool) ([]Result, error) {
	if index <= m.applied.Load() || len(entry) == 0 { // applied, or a nudge
		return nil, nil
	}
	cmds, err := DecodeEntry(entry, m.cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("apply entry %d: %w", index, err)
	}
	m.mem.reset()
	s := &step{
		m: m, own: newLayer(m.cfg.Store, m.positions, &m.mem), fresh: map[feed]*run{}, self: m.Self(), stamp: m.Stamp(), replayed: replayed, index: index, level: entryLevel(entry),
		cursors: map[uint8]crdt.Vector{}, heads: map[feed]*head{}, deps: map[uint8]crdt.Vector{}, digests: map[uint8]*uint64{}, finals: map[uint8]crdt.Finals{},
	}
	s.selfID = m.id(s.self)
	s.results, s.events, s.opened = make([]Result, 0, len(cmds)), make([]wire.Event, 0, len(cmds)), m.opened[:0]
	for _, c := range cmds {
		s.run(c)
	}
	if err := m.commit(s, index); err != nil {
		return nil, fmt.Errorf("apply entry %d: %w", index, err)
	}
	return s.results, nil
}

// commit makes a step the state, all at once, and then tells whoever watches.
func (m *Machine) commit(s *step, index uint64) error {
	for p, d := range s.digests {
		s.set(partitionKey(spaceDigest, p), binary.BigEndian.AppendUint64(nil, *d))
	}
	for f, h := range s.heads {
		if h.moved {
			s.set(cursorKey(f.p, f.id), encodePosition(h.Position))
		}
	}
	if s.closed != 0 {
		s.events = append(s.events, wire.Event{Closed: s.closed})
	}
	s.set(MetaKey(metaApplied), binary.BigEndian.AppendUint64(nil, index))
	s.set(MetaKey(metaStamp), binary.BigEndian.AppendUint64(nil, uint64(s.stamp)))
	if s.err != nil {
		return s.err
	}
	if err := m.write(s); err != nil {
		return err
	}
	for _, st := range s.opened {
		st.kept.keep(st)
		m.idle.give(st)
	}
	if m.opened = s.opened; cap(s.opened) > 4*batchSessions {
		m.opened = nil
	}
	m.hot.turn()
	m.positions.keepAll(s.own)
	m.keepRecent(s)
	m.stamp.Store(uint64(s.stamp))
	if s.self != m.Self() {
		m.self.Store(&s.self)
	}
	for p, v := range s.cursors {
		m.cursors[p].Store(&v)
	}
	if s.named {
		m.publishOrigins()
	}
	m.publishShape(s)
	m.publishFinals(s)
	s.spans.end()
	if m.cfg.Watch != nil && len(s.events) > 0 {
		m.cfg.Watch(s.events)
	}
	m.applied.Store(index) // after the telling: who sees the index has been told
	return nil
}

// write makes what a step has changed durable, or as durable as the store makes it.
func (m *Machine) write(s *step) error {
	b := m.cfg.Store.Batch()
	err := s.writeSessions(b)
	if err == nil {
		err = s.writeFeeds(b)
	}
	if err == nil {
		err = s.own.write(b)
	}
	for _, r := range s.dropped { // last: none of what is set above them is below a floor
		if err == nil {
			err = b.DeleteRange(r[0], r[1])
		}
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	return errors.Join(b.Commit(), b.Close())
}

func (s *step) writeSessions(b Batch) error {
	slices.SortFunc(s.opened, func(x, y *sessionStore) int { return bytes.Compare(x.prefix, y.prefix) })
	for _, st := range s.opened {
		if err := st.write.write(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *step) writeFeeds(b Batch) error {
	s.fed = slices.SortedFunc(maps.Keys(s.fresh), func(x, y feed) int { return cmp.Or(cmp.Compare(x.p, y.p), cmp.Compare(x.id, y.id)) })
	for _, f := range s.fed {
		added := s.fresh[f]
		key := feedKey(f.p, f.id, 0)
		for i, record := range added.records {
			binary.BigEndian.PutUint64(key[len(key)-8:], added.from+uint64(i))
			if err := b.Set(key, record); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepRecent has at hand what is in the store by now. It comes before the cursors: who sees a cursor finds the records.
func (m *Machine) keepRecent(s *step) {
	for _, f := range s.fed {
		m.recent.add(f, s.fresh[f])
	}
	for _, fl := range s.lifted {
		m.recent.lift(feed{fl.ID, fl.Partition}, fl.F)
	}
}

func (m *Machine) publishOrigins() {
	all := make([]crdt.Origin, 0, len(m.names))
	for _, o := range m.names {
		all = append(all, o)
	}
	slices.Sort(all)
	m.origins.Store(&all)
}

// Applied is the index of the last entry that is applied.
func (m *Machine) Applied() uint64 { return m.applied.Load() }

// AppliedIn is the index of the last entry that is applied in a state, 0 for none.
func AppliedIn(r Reader) (uint64, error) {
	v, err := r.Get(MetaKey(metaApplied))
	if err != nil || v == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// Stamp is the greatest that is applied.
func (m *Machine) Stamp() crdt.Stamp { return crdt.Stamp(m.stamp.Load()) }

// Self returns the current incarnation, "" before the first.
func (m *Machine) Self() crdt.Origin { return *m.self.Load() }

// MustRenew reports whether a new incarnation has to begin before anything is numbered: there is none yet, or too few of the nodes that vote back
// the one that there is: can tell that their disks have not gone back, and had nothing that the leader lacks. What is forgotten must not be numbered
// again. A region that was evicted waits for what the others have to say of what it numbered.
func (m *Machine) MustRenew(backed bool) bool {
	return !m.Fenced() && (m.Self() == "" || !backed)
}

// Backed reports whether so many nodes of those that vote are enough to go on under an incarnation: a majority, since it shares a node with whichever
// majority committed something, also if one node has got its vote or lost it in between.
func Backed(backing, voters int) bool { return 2*backing > voters }

// Origins returns all origins known here.
func (m *Machine) Origins() []crdt.Origin { return *m.origins.Load() }

// Cursors returns how far each origin's feed of a partition is applied here, the own one included. It is not to be
// changed.
func (m *Machine) Cursors(partition uint8) crdt.Vector { return *m.cursors[partition].Load() }
