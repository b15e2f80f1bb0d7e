package machine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// FloorLevel is from which level on feeds are cut, and states of other regions taken in.
const FloorLevel = 2

// Floor is up to where an origin's feed of a partition is not to be kept any more.
type Floor struct {
	Partition uint8
	ID        crdt.OriginID
	F         uint64
}

func (f Floor) encode() []byte {
	b := binary.BigEndian.AppendUint32([]byte{f.Partition}, uint32(f.ID))
	return binary.BigEndian.AppendUint64(b, f.F)
}

func decodeFloor(b []byte) (Floor, error) {
	if len(b) != 13 || b[0] >= crdt.Partitions {
		return Floor{}, fmt.Errorf("%w: floor %x", errEntry, b)
	}
	return Floor{b[0], crdt.OriginID(binary.BigEndian.Uint32(b[1:])), binary.BigEndian.Uint64(b[5:])}, nil
}

// lift drops the records of feeds up to their new floors. A floor does not go back, nor above what was applied before this
// entry: so none of what the entry itself adds to a feed goes.
func (s *step) lift(floors []Floor) {
	for _, fl := range floors {
		f := feed{fl.ID, fl.Partition}
		to := min(fl.F, s.m.Cursors(f.p)[f.id])
		if to <= s.floor(f).F {
			continue
		}
		v := s.record(f, to)
		if len(v) < len(wire.Hash{}) {
			s.fail(fmt.Errorf("the record of partition %d, origin %08x at %d is not held", f.p, uint32(f.id), to))
			return
		}
		s.drop(f, wire.Position{F: to, Hash: wire.Hash(v[:len(wire.Hash{})])})
	}
}

// drop makes a position a feed's floor. What the entry itself has added before, as where a state that is merged jumps over it, goes too.
func (s *step) drop(f feed, floor wire.Position) {
	s.set(floorKey(f.p, f.id), encodePosition(floor))
	s.dropped = append(s.dropped, [2][]byte{feedKey(f.p, f.id, 0), feedKey(f.p, f.id, floor.F+1)})
	s.lifted = append(s.lifted, Floor{f.p, f.id, floor.F})
	if added := s.fresh[f]; added != nil && added.last() <= floor.F {
		delete(s.fresh, f)
	}
}

// floor is the last position of a feed that is not held as a record; zero: all are.
func (s *step) floor(f feed) (pos wire.Position) {
	if v := s.get(floorKey(f.p, f.id)); v != nil {
		pos = decodePosition(v)
	}
	return pos
}

// Floor is the last position of a feed of which the record is not held any more; zero: all are held.
func (m *Machine) Floor(origin crdt.Origin, partition uint8) wire.Position {
	v, err := m.cfg.Store.Get(floorKey(partition, origin.ID()))
	if err != nil || v == nil {
		return wire.Position{}
	}
	return decodePosition(v)
}

// Retention is what is kept of feeds.
type Retention struct {
	// Ops is how many of each feed are kept for regions that have not acknowledged them; 0: all.
	Ops uint64
	// Slack is how many of each feed are kept although every region has them: one that loses a little catches up by them.
	Slack uint64
}

// maxFloors bounds the feeds that one entry cuts.
const maxFloors = 1024

// Floors returns the command that drops what need not be kept, nil if that is hardly anything. acked is up to where all other
// regions are known to have a feed.
func (m *Machine) Floors(keep Retention, acked func(crdt.Origin, uint8) uint64) *Command {
	c := &Command{Kind: KindFloor}
	for p := range uint8(crdt.Partitions) {
		cursors := m.Cursors(p)
		for _, o := range m.Origins() {
			cursor := cursors[o.ID()]
			if cursor == 0 || len(c.Floors) >= maxFloors {
				continue
			}
			to := keep.floor(cursor, acked(o, p))
			if to > m.Floor(o, p).F+keep.Slack/4 {
				c.Floors = append(c.Floors, Floor{p, o.ID(), to})
			}
		}
	}
	if len(c.Floors) == 0 {
		return nil
	}
	return c
}

// floor is up to where a feed is not needed.
func (k Retention) floor(cursor, acked uint64) (to uint64) {
	if acked = min(acked, cursor); acked > k.Slack {
		to = acked - k.Slack
	}
	if k.Ops > 0 && cursor > k.Ops {
		to = max(to, cursor-k.Ops)
	}
	return to
}

// FloorsOf visits the floors of all feeds that have one.
func (m *Machine) FloorsOf(visit func(Floor)) error {
	err := m.cfg.Store.Scan([]byte{spaceFloor}, []byte{spaceFloor + 1}, false, func(k, v []byte) bool {
		visit(Floor{k[1], crdt.OriginID(binary.BigEndian.Uint32(k[2:])), decodePosition(v).F})
		return true
	})
	if err != nil {
		return errors.Join(errors.New("read floors"), err)
	}
	return nil
}
