package machine

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/roamsync/roam/crdt"
)

// KindShape changes what is wanted of the region's nodes. Only a region's first group takes it.
const KindShape Kind = 16

// firstLevel is where a region begins: what a version before levels were committed applies.
const firstLevel = 1

// takeoverLevel is from which level on answers of other regions are taken over.
const takeoverLevel = 3

// shapeLevel is from which level on KindShape may be proposed.
const shapeLevel = 2

// Shape is a change of what is wanted of a region's nodes; zero fields change nothing.
type Shape struct {
	Size  uint32 // how many nodes are to vote
	Level uint32 // what may be proposed from now on; it never goes down
	Out   string // raft id of a node ...
	As    Out    // ... that is out for this reason
}

// Out says why a node is out of its region.
type Out uint8

// The reasons. A node that was replaced while it was dead may follow again when it comes back; one that has left may not.
const (
	OutNot      Out = iota
	OutReplaced     // another has its vote
	OutLeft         // for good
)

// Level is from which committed level on the command may be proposed. The command that raises the level is of the level that it
// raises to: who cannot apply that stops there.
func (c *Command) Level() uint32 {
	switch c.Kind {
	case KindShape:
		return max(shapeLevel, c.Shape.Level)
	case KindFloor, KindInstall, KindMerge:
		return FloorLevel
	case KindPurge:
		return purgeLevel
	case KindAnswer:
		if slices.ContainsFunc(c.Ops, (*crdt.Op).TakesOver) {
			return takeoverLevel
		}
	case KindClose, KindEvict, KindBorn:
		return FinalLevel
	case KindMark, KindExpire:
		return ExpireLevel
	}
	return firstLevel
}

// Raises reports whether the command raises the level: it may be proposed as soon as all nodes can apply that.
func (c *Command) Raises() bool { return c.Kind == KindShape && c.Shape.Level > 0 }

func (s *Shape) encode(b []byte) []byte {
	for num, v := range []uint32{s.Size, s.Level} {
		if v > 0 {
			b = appendUint(b, protowire.Number(32+num), uint64(v))
		}
	}
	if s.Out != "" {
		b = appendUint(appendBytes(b, 34, []byte(s.Out)), 35, uint64(s.As))
	}
	return b
}

func (s *Shape) setUint(num protowire.Number, v uint64) {
	switch num {
	case 32:
		s.Size = uint32(v)
	case 33:
		s.Level = uint32(v)
	case 35:
		s.As = Out(v)
	}
}

// shape applies a Shape.
func (s *step) shape(c *Shape) {
	if c.Size > 0 {
		s.shaped.Size = c.Size
		s.set(MetaKey(metaSize), binary.BigEndian.AppendUint32(nil, c.Size))
	}
	if c.Level > max(s.m.Level(), s.shaped.Level) {
		s.shaped.Level = c.Level
		s.set(MetaKey(metaLevel), binary.BigEndian.AppendUint32(nil, c.Level))
	}
	if c.Out == "" {
		return
	}
	k := MetaKey(metaOut + c.Out)
	switch was := s.get(k); {
	case len(was) == 1 && Out(was[0]) == OutLeft: // for good
	case c.As == OutNot:
		s.fail(s.own.Delete(k))
	default:
		s.set(k, []byte{byte(c.As)})
	}
}

func (m *Machine) publishShape(s *step) {
	if s.shaped.Size > 0 {
		m.size.Store(s.shaped.Size)
	}
	if s.shaped.Level > 0 {
		m.level.Store(s.shaped.Level)
	}
}

// Size is how many nodes are wanted to vote, 0 as long as nobody has said.
func (m *Machine) Size() int { return int(m.size.Load()) }

// Level is the committed feature level: every node of the region can apply entries of it.
func (m *Machine) Level() uint32 { return max(m.level.Load(), firstLevel) }

// Outs are the nodes that are out of the region, by raft id.
func (m *Machine) Outs() (map[string]Out, error) {
	all, lo := map[string]Out{}, MetaKey(metaOut)
	err := m.cfg.Store.Scan(lo, upper(lo), false, func(k, v []byte) bool {
		if len(v) == 1 {
			all[string(k[len(lo):])] = Out(v[0])
		}
		return true
	})
	return all, err
}
