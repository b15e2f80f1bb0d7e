package salvage

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// Branch is what a disk holds of an origin's feed of a partition, and the region that lives does not.
type Branch struct {
	Origin crdt.Origin
	Shared uint64        // both hold the same up to here
	From   uint64        // the first that the disk has a record of, above Shared
	End    wire.Position // the last
	Erased []uint64      // ops of sessions that were erased since, in order: they are left out
	Forked bool          // the region holds something else above Shared
	As     crdt.Origin   // under which it is numbered anew, from 1 on
	again  []again       // sessions that are to be shown anew, if it has forked
	stamp  crdt.Stamp    // the greatest of the ops
}

// again is a session that clients have to be shown anew: what their tokens name may be of either side of a fork, so they say too much.
type again struct {
	session string
	ts      int64 // of its last op
}

// Missing is how many ops above Shared the disk has no record of any more.
func (b *Branch) Missing() uint64 { return b.From - b.Shared - 1 }

// Ops is how many ops are numbered anew.
func (b *Branch) Ops() uint64 { return b.End.F - b.From + 1 - uint64(len(b.Erased)) }

// Len is how many numbers that takes, with those for sessions that are to be shown anew.
func (b *Branch) Len() uint64 { return b.Ops() + uint64(len(b.again)) }

// renumber is the last number, under As, of what was numbered up to f.
func (b *Branch) renumber(f uint64) uint64 {
	if f < b.From {
		return 0
	}
	n, _ := slices.BinarySearch(b.Erased, f+1)
	return f - b.From + 1 - uint64(n)
}

// leftOut reports whether an op is not numbered anew.
func (b *Branch) leftOut(f uint64) bool {
	_, found := slices.BinarySearch(b.Erased, f)
	return found
}

// name gives the branches of a partition the origins that they go under. The name covers all that follows from it: what the branches hold, by
// the hashes at their ends, where they begin, and what is left out. So one number under it has one content, whoever works it out, and when.
func name(partition uint8, branches []*Branch) {
	plan := sha256.New()
	for _, b := range branches {
		fmt.Fprintf(plan, "%d %s %d %d %d %x %v\n", partition, b.Origin, b.Shared, b.From, b.End.F, b.End.Hash, b.Erased)
	}
	sum := plan.Sum(nil)
	for _, b := range branches {
		b.As = nameOf(b.Origin, sum)
	}
}

// nameOf is below the origin that it stands for: whatever is said of the incarnations of a region up to that one holds for it, too.
func nameOf(o crdt.Origin, plan []byte) crdt.Origin {
	sum := sha256.Sum256(append([]byte("roam salvage\x00"+o+"\x00"), plan...))
	seconds := o.Incarnation() >> 32
	return crdt.NewOrigin(o.Region(), (max(seconds, 1)-1)<<32|uint64(binary.BigEndian.Uint32(sum[:])))
}

// vector is what a vector of the disk says in numbers that hold where its branches are taken in.
func (p *Plan) vector(v crdt.Vector) crdt.Vector {
	out := v.Clone()
	for _, b := range p.Branches {
		id := b.Origin.ID()
		f := v[id]
		if f <= b.Shared {
			continue
		}
		if out[id] = b.Shared; b.Shared == 0 {
			delete(out, id)
		}
		if n := b.renumber(f); n > 0 {
			out[b.As.ID()] = n
		}
	}
	return out
}

// record is a record of the disk as it is numbered anew, given what those before it that were left out depended on.
func (p *Plan) record(b *Branch, first bool, deps crdt.Vector, was []byte) ([]byte, error) {
	rec, op, err := decode(was)
	if err != nil {
		return nil, err
	}
	all := rec.Deps.Clone()
	all.Merge(deps)
	if all = p.vector(all); first && b.Shared > 0 { // and so on all that those up to there depended on
		all[b.Origin.ID()] = max(all[b.Origin.ID()], b.Shared)
	}
	if op.Kind.Removes() {
		op.Seen = p.vector(op.Seen)
		rec.Op = op.Encode()
	}
	return wire.Record{Deps: all, Op: rec.Op}.Encode(), nil
}

// mark is a record by which all clients are shown a session anew: a removal of nothing.
func (b *Branch) mark(n int) []byte {
	op := &crdt.Op{Kind: crdt.KindPurge, Session: b.again[n].session, Stamp: b.stamp + crdt.Stamp(n) + 1, TS: b.again[n].ts}
	return wire.Record{Op: op.Encode()}.Encode()
}

func decode(b []byte) (rec wire.Record, op *crdt.Op, err error) {
	if rec, err = wire.DecodeRecord(b); err == nil {
		op, err = crdt.DecodeOp(rec.Op)
	}
	return rec, op, err
}
