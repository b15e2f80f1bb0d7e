package machine

import (
	"encoding/binary"
	"fmt"
	"maps"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// FinalLevel is from which level on origins are closed, and regions evicted.
const FinalLevel = 4

// The kinds of commands that end something for good.
const (
	KindClose Kind = iota + 20 // note that nobody numbers under some origins any more, and up to where they have
	KindEvict                  // note that a region is given up, or that one which was has come back
	KindBorn                   // note that the state began under the current incarnation, unless that was noted before
)

func encodeFinal(f wire.Final) []byte {
	b := binary.BigEndian.AppendUint64([]byte{f.Partition}, f.F)
	return append(b, f.Origin...)
}

func decodeFinal(b []byte) (f wire.Final, err error) {
	if len(b) < 9 || b[0] >= crdt.Partitions {
		return f, fmt.Errorf("%w: final %x", errEntry, b)
	}
	f.Partition, f.F = b[0], binary.BigEndian.Uint64(b[1:])
	if f.Origin, err = crdt.ParseOrigin(string(b[9:])); err != nil {
		return f, fmt.Errorf("%w: %w", errEntry, err)
	}
	return f, nil
}

// finalsOf returns what is closed in a partition, to be changed.
func (s *step) finalsOf(p uint8) crdt.Finals {
	f, ok := s.finals[p]
	if !ok {
		f = s.m.Finals(p).Clone()
		s.finals[p] = f
	}
	return f
}

// admits reports whether the next record of a feed may be taken in.
func (s *step) admits(f feed, at uint64) bool {
	if fs, ok := s.finals[f.p]; ok {
		return fs.Admits(f.id, at)
	}
	return s.m.Finals(f.p).Admits(f.id, at)
}

// close notes that origins are closed. Whoever closed one may have known less than this region holds: then the end is what is held here, and
// the others hear of that. A region that was evicted has no say in it.
func (s *step) close(finals []wire.Final) error {
	for _, c := range finals {
		if c.Origin == s.self {
			continue // it has to end first
		}
		f := feed{c.Origin.ID(), c.Partition}
		if err := s.learn(f.id, c.Origin); err != nil {
			return err
		}
		last := c.F
		if !s.fenced() {
			last = max(last, s.vector(f.p)[f.id])
		}
		s.end(f, last)
	}
	return nil
}

// end makes an f an origin's last in a partition, unless it has a later one.
func (s *step) end(f feed, last uint64) {
	fs := s.finalsOf(f.p)
	if old, closed := fs[f.id]; closed && old >= last {
		return
	}
	fs[f.id] = last
	s.set(finalKey(f.p, f.id), binary.BigEndian.AppendUint64(nil, last))
	s.closed |= 1 << f.p
}

// fenced reports whether the region was evicted, and may not number anything before it has begun a later incarnation.
func (s *step) fenced() bool { return s.self == "" && s.evictions().Out(s.m.cfg.Region) }

func (s *step) evictions() crdt.Evictions {
	if s.evicted != nil {
		return s.evicted
	}
	return s.m.Evictions()
}

// evict notes an eviction. The region that is given up stops numbering at once, under whatever it does so by now, unless its state was
// begun after that: then it has come back.
func (s *step) evict(region string, e crdt.Eviction) {
	e = e.Join(s.evictions()[region])
	if region == s.m.cfg.Region {
		s.born()
		inc := s.self.Incarnation()
		if inc > 0 && crdt.Origin(s.get(MetaKey(metaBorn))).Incarnation() > e.Bound {
			e.Back = max(e.Back, inc)
		} else {
			s.fence(&e, inc)
		}
	}
	s.noteEviction(region, e)
}

// fence ends what the region numbers under, and gives up with it what it may have come back under before, if its disk has forgotten that.
func (s *step) fence(e *crdt.Eviction, inc uint64) {
	e.Bound = max(e.Bound, e.Back, inc)
	if s.self != "" {
		s.forgetUnused(s.self)
		s.become("")
	}
}

// born notes under which incarnation the state began, if that is not known. Whatever was begun before an eviction is of before it, however
// often its region has begun a new incarnation since.
func (s *step) born() {
	if s.self != "" && s.get(MetaKey(metaBorn)) == nil {
		s.set(MetaKey(metaBorn), []byte(s.self))
	}
}

func (s *step) noteEviction(region string, e crdt.Eviction) {
	if old, ok := s.evictions()[region]; ok && old == e {
		return
	}
	if s.evicted == nil {
		s.evicted = maps.Clone(s.m.Evictions())
	}
	s.evicted[region] = e
	s.set(MetaKey(metaEvicted+region), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, e.Bound), e.Back))
}

// beyond reports whether something is held above the end of its origin.
func (s *step) beyond() bool {
	for p := range uint8(crdt.Partitions) {
		for id, last := range s.finalsOf(p) {
			if s.vector(p)[id] > last {
				return true
			}
		}
	}
	return false
}

// comeBack notes that the region goes on under an incarnation: if it was evicted, it is back, and what it holds is as good as what others do.
func (s *step) comeBack(next crdt.Origin) {
	region := s.m.cfg.Region
	if e, ok := s.evictions()[region]; ok && e.Back <= e.Bound && next.Incarnation() > e.Bound {
		s.set(MetaKey(metaBorn), []byte(next))
		e.Back = max(e.Back, next.Incarnation())
		s.noteEviction(region, e)
	}
}

func (m *Machine) loadFinals() error {
	var finals [crdt.Partitions]crdt.Finals
	for p := range finals {
		finals[p] = crdt.Finals{}
	}
	err := m.cfg.Store.Scan([]byte{spaceFinal}, []byte{spaceFinal + 1}, false, func(k, v []byte) bool {
		finals[k[1]][crdt.OriginID(binary.BigEndian.Uint32(k[2:]))] = binary.BigEndian.Uint64(v)
		return true
	})
	for p := range finals {
		m.finals[p].Store(&finals[p])
	}
	if err != nil {
		return err
	}
	all, lo := crdt.Evictions{}, MetaKey(metaEvicted)
	err = m.cfg.Store.Scan(lo, upper(lo), false, func(k, v []byte) bool {
		all[string(k[len(lo):])] = crdt.Eviction{Bound: binary.BigEndian.Uint64(v), Back: binary.BigEndian.Uint64(v[8:])}
		return true
	})
	m.evictions.Store(&all)
	return err
}

// publishFinals makes known what a step has closed, and whom it has evicted.
func (m *Machine) publishFinals(s *step) {
	for p, f := range s.finals {
		m.finals[p].Store(&f)
	}
	if s.evicted != nil {
		m.evictions.Store(&s.evicted)
	}
}

// Finals is what is closed in a partition. It is not to be changed.
func (m *Machine) Finals(partition uint8) crdt.Finals { return *m.finals[partition].Load() }

// Evictions are the regions that were ever given up, as far as is known here. It is not to be changed.
func (m *Machine) Evictions() crdt.Evictions { return *m.evictions.Load() }

// Born reports whether it is known under which incarnation the state began.
func (m *Machine) Born() bool {
	v, err := m.cfg.Store.Get(MetaKey(metaBorn))
	return err != nil || v != nil
}

// Fenced reports whether the region was evicted, and may not number anything before it has begun a later incarnation.
func (m *Machine) Fenced() bool { return m.Self() == "" && m.Evictions().Out(m.cfg.Region) }

// Settled reports whether all that the region numbered before it was evicted, as far as it is held here, is closed: until then it is not
// known what of it is beyond.
func (m *Machine) Settled() bool {
	region := m.cfg.Region
	for _, o := range m.Origins() {
		if o.Region() != region || !m.Evictions().Void(region, o.Incarnation()) {
			continue
		}
		id := o.ID()
		for p := range uint8(crdt.Partitions) {
			if _, closed := m.Finals(p)[id]; !closed && m.Cursors(p)[id] > 0 {
				return false
			}
		}
	}
	return true
}

// Beyond counts the ops held here that are above the end of their origin: the others have closed it without them. Only a region that
// was evicted can hold such.
func (m *Machine) Beyond() (n uint64) {
	for p := range uint8(crdt.Partitions) {
		cursors := m.Cursors(p)
		for id, last := range m.Finals(p) {
			n += max(cursors[id], last) - last
		}
	}
	return n
}
