package salvage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// Living is the region that takes in what was found, at whoever leads the partitions that are asked for.
type Living interface {
	// Held is how far the region has each of some feeds.
	Held(ctx context.Context, partition uint8, at []Mark) ([]Held, error)
	// Erased is when those of some sessions were erased that ever were.
	Erased(ctx context.Context, partition uint8, sessions []string) (map[string]crdt.Stamp, error)
	// Expect notes up to where origins will have numbered, which nobody else does.
	Expect(ctx context.Context, ends []wire.Final) error
	// Take commits records, as far as their causes are there. It returns the feed's cursor, and how many of the ops that it took were
	// known by their oids.
	Take(ctx context.Context, rs wire.Records) (cursor, known uint64, err error)
}

// Mark is a place in an origin's feed that is asked for.
type Mark struct {
	Origin crdt.Origin `json:"origin"`
	F      uint64      `json:"f"`
}

// Held is how far a region has a feed.
type Held struct {
	Cursor uint64 `json:"cursor"`
	F      uint64 `json:"f"`    // the one that was asked for, or Cursor, if that is less
	Hash   []byte `json:"hash"` // there; empty: it is not kept any more
	// Elsewhere: another region that is heard numbers under the origin, and what is not here yet comes from it.
	Elsewhere bool `json:"elsewhere"`
}

// Plan is what a disk holds of a partition beyond a region that lives.
type Plan struct {
	Partition uint8
	Branches  []*Branch
	Unsure    []crdt.Origin // ends below what the region keeps of the feed: taken to be the same
	Coming    []crdt.Origin // the region lacks some, and it comes from where it is numbered
}

// ErrDisk is for what the disk does not give back. It concerns one partition.
var ErrDisk = errors.New("the disk does not read back")

// feed reads some records of a disk.
func feed(disk *machine.Machine, o crdt.Origin, partition uint8, from uint64, maxBytes int) ([][]byte, error) {
	rs, err := disk.Feed(o, partition, from, maxBytes)
	if err == nil && len(rs.Records) == 0 {
		err = errors.New("nothing is there")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s at %d: %w", ErrDisk, o, from, err)
	}
	return rs.Records, nil
}

// readBytes bounds what is read of a feed at a time.
const readBytes = 1 << 20

// Compare works out the plan for a partition. all takes in what cannot be compared, too.
func Compare(ctx context.Context, disk *machine.Machine, partition uint8, to Living, all bool) (*Plan, error) {
	p := &Plan{Partition: partition}
	var at []Mark
	for _, o := range disk.Origins() {
		if f := disk.Cursors(partition)[o.ID()]; f > 0 {
			at = append(at, Mark{o, f})
		}
	}
	if len(at) == 0 {
		return p, nil
	}
	held, err := to.Held(ctx, partition, at)
	if err == nil && len(held) != len(at) {
		err = fmt.Errorf("asked for %d feeds, told of %d", len(at), len(held))
	}
	for i, m := range at {
		if err == nil {
			err = p.compare(ctx, disk, to, m, held[i], all)
		}
	}
	if err == nil {
		err = p.look(ctx, disk, to)
	}
	if err != nil {
		return nil, fmt.Errorf("partition %d: %w", partition, err)
	}
	p.Branches = slices.DeleteFunc(p.Branches, func(b *Branch) bool { return b.End.F < b.From && b.Missing() == 0 })
	slices.SortFunc(p.Branches, func(a, b *Branch) int { return cmp.Compare(a.Origin, b.Origin) })
	name(partition, p.Branches)
	return p, nil
}

// compare looks at one feed: up to where both are the same, and what the disk has above that.
func (p *Plan) compare(ctx context.Context, disk *machine.Machine, to Living, m Mark, held Held, all bool) error {
	floor := disk.Floor(m.Origin, p.Partition).F
	shared, forked := held.F, false
	switch same, comparable := sameAt(disk, m.Origin, p.Partition, held); {
	case !comparable && held.Cursor >= m.F && !all:
		p.Unsure = append(p.Unsure, m.Origin)
		return nil
	case !comparable && held.Cursor >= m.F:
		shared = floor
	case comparable && !same:
		var err error
		if shared, err = p.fork(ctx, disk, to, m.Origin, floor, held.F); err != nil {
			return err
		}
		forked = true
	case shared >= m.F:
		return nil
	case comparable && held.Elsewhere:
		p.Coming = append(p.Coming, m.Origin)
		return nil
	}
	end, ok := disk.Position(m.Origin, p.Partition, m.F)
	if !ok {
		return fmt.Errorf("%w: %s at %d, which is its end", ErrDisk, m.Origin, m.F)
	}
	p.Branches = append(p.Branches, &Branch{Origin: m.Origin, Shared: shared, From: max(shared, floor) + 1, End: end, Forked: forked})
	return nil
}

// sameAt compares a feed with what the region holds at a place.
func sameAt(disk *machine.Machine, o crdt.Origin, partition uint8, held Held) (same, comparable bool) {
	pos, ok := disk.Position(o, partition, held.F)
	if held.F == 0 {
		return true, true
	}
	if !ok || len(held.Hash) != len(pos.Hash) {
		return false, false
	}
	return wire.Hash(held.Hash) == pos.Hash, true
}

// fork finds up to where two copies of a feed are the same that differ at an f. If that is below what both have kept, all that the disk
// has kept is taken to be something else.
func (p *Plan) fork(ctx context.Context, disk *machine.Machine, to Living, o crdt.Origin, floor, differ uint64) (uint64, error) {
	same, sure := floor, floor == 0
	for same+1 < differ {
		mid := same + (differ-same)/2
		held, err := to.Held(ctx, p.Partition, []Mark{{o, mid}})
		if err != nil {
			return 0, err
		}
		if len(held) != 1 || held[0].F != mid {
			return 0, fmt.Errorf("%s at %d: the region lost it meanwhile", o, mid)
		}
		switch equal, comparable := sameAt(disk, o, p.Partition, held[0]); {
		case comparable && equal:
			same, sure = mid, true
		case comparable:
			differ = mid
		default:
			same, sure = mid, false
		}
	}
	if !sure {
		return floor, nil
	}
	return same, nil
}

// askSessions bounds the sessions that are asked for at once.
const askSessions = 256

// look finds the ops of sessions that were erased after they had been put, and the sessions that are to be shown anew.
func (p *Plan) look(ctx context.Context, disk *machine.Machine, to Living) error {
	puts := map[string][]put{}
	for _, b := range p.Branches {
		if err := each(disk, b, p.Partition, func(f uint64, record []byte) error {
			_, op, err := decode(record)
			if err == nil {
				session := strings.Clone(op.Session) // it shares the op's memory
				puts[session] = append(puts[session], put{b, f, op.Stamp, op.TS})
			}
			return err
		}); err != nil {
			return err
		}
	}
	names := slices.Sorted(maps.Keys(puts))
	for some := range slices.Chunk(names, askSessions) {
		erased, err := to.Erased(ctx, p.Partition, some)
		if err != nil {
			return err
		}
		for _, session := range some {
			note(session, puts[session], erased[session])
		}
	}
	for _, b := range p.Branches {
		slices.Sort(b.Erased)
	}
	return nil
}

// note has what was put to a session before it was erased left out, and the session shown anew where there is more in a fork.
func note(session string, puts []put, erased crdt.Stamp) {
	for _, op := range puts {
		b := op.of
		if op.stamp <= erased {
			b.Erased = append(b.Erased, op.f)
			continue
		}
		b.stamp = max(b.stamp, op.stamp)
		switch last := len(b.again) - 1; {
		case !b.Forked:
		case last >= 0 && b.again[last].session == session:
			b.again[last].ts = max(b.again[last].ts, op.ts)
		default:
			b.again = append(b.again, again{session, op.ts})
		}
	}
}

// put is an op of a branch.
type put struct {
	of    *Branch
	f     uint64
	stamp crdt.Stamp
	ts    int64
}

// each visits the records of a branch.
func each(disk *machine.Machine, b *Branch, partition uint8, visit func(f uint64, record []byte) error) error {
	for f := b.From; f <= b.End.F; {
		records, err := feed(disk, b.Origin, partition, f, readBytes)
		if err != nil {
			return err
		}
		for _, record := range records {
			if err := visit(f, record); err != nil {
				return fmt.Errorf("%w: %s at %d: %w", ErrDisk, b.Origin, f, err)
			}
			f++
		}
	}
	return nil
}
