package salvage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// Done is what became of the ops of a plan.
type Done struct {
	Put   uint64 // taken in now
	Known uint64 // of these, known by their oids: their clients had put them again
	There uint64 // taken in before
}

// Add counts what became of another plan.
func (d *Done) Add(o Done) { d.Put, d.Known, d.There = d.Put+o.Put, d.Known+o.Known, d.There+o.There }

// ErrCauses is for ops whose causes the region does not hold, nor the disk.
var ErrCauses = errors.New("what some ops depend on is in a region that is not heard: try again when it is")

const (
	// batchOps and batchBytes bound what is put at a time.
	batchOps   = 256
	batchBytes = 512 << 10
	// causesRetry is the time between two tries of ops whose causes are not there.
	causesRetry = 500 * time.Millisecond
)

// Put has a region take in what the plan lists. What was taken in before, by this or by another run, is not sent. wait is for how long
// nothing may go on because causes are missing.
func (p *Plan) Put(ctx context.Context, disk *machine.Machine, to Living, wait time.Duration) (done Done, err error) {
	ways, err := p.begin(ctx, to)
	if err != nil {
		return done, err
	}
	for still := time.Now(); ; {
		moved, open := false, false
		for _, w := range ways {
			went, err := w.send(ctx, disk, to, &done)
			if err != nil {
				return done, fmt.Errorf("partition %d: %w", p.Partition, err)
			}
			moved, open = moved || went, open || w.cursor < w.b.Len()
		}
		switch {
		case !open:
			return done, nil
		case moved:
			still = time.Now()
			continue
		case time.Since(still) > wait:
			return done, fmt.Errorf("partition %d: %w", p.Partition, ErrCauses)
		}
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-time.After(causesRetry):
		}
	}
}

// begin says what is to come, and asks how far it is.
func (p *Plan) begin(ctx context.Context, to Living) (ways []*way, err error) {
	var ends []wire.Final
	var at []Mark
	for _, b := range p.Branches {
		if b.Len() > 0 {
			ends, at = append(ends, wire.Final{Origin: b.As, Partition: p.Partition, F: b.Len()}), append(at, Mark{b.As, b.Len()})
			ways = append(ways, &way{p: p, b: b, next: b.From, hash: wire.FeedStart(b.As, p.Partition)})
		}
	}
	if len(ends) == 0 {
		return nil, nil
	}
	if err := to.Expect(ctx, ends); err != nil {
		return nil, fmt.Errorf("partition %d: %w", p.Partition, err)
	}
	held, err := p.held(ctx, to, at)
	for i := range ways {
		if err == nil {
			ways[i].cursor = held[i].Cursor
		}
	}
	return ways, err
}

func (p *Plan) held(ctx context.Context, to Living, at []Mark) ([]Held, error) {
	held, err := to.Held(ctx, p.Partition, at)
	if err == nil && len(held) != len(at) {
		err = fmt.Errorf("asked for %d feeds, told of %d", len(at), len(held))
	}
	return held, err
}

// There is how many of the plan's ops are of feeds that the region has taken in before, all of them.
func (p *Plan) There(ctx context.Context, to Living) (ops uint64, err error) {
	at := make([]Mark, len(p.Branches))
	for i, b := range p.Branches {
		at[i] = Mark{b.As, b.Len()}
	}
	if len(at) == 0 {
		return 0, nil
	}
	held, err := p.held(ctx, to, at)
	for i, h := range held {
		if err == nil && h.Cursor >= p.Branches[i].Len() {
			ops += p.Branches[i].Ops()
		}
	}
	return ops, err
}

// way is a branch on its way in.
type way struct {
	p      *Plan
	b      *Branch
	next   uint64      // of the disk's numbers, the one to be read next
	n      uint64      // how many were numbered anew
	hash   wire.Hash   // after them
	deps   crdt.Vector // of what was left out since the last of them
	cursor uint64      // of the region
	wait   wire.Records
	said   bool // what was taken in before this run is counted
}

// send sends some records, and reports whether the region has come further.
func (w *way) send(ctx context.Context, disk *machine.Machine, to Living, done *Done) (bool, error) {
	if !w.said {
		w.said = true
		done.There += min(w.cursor, w.b.Ops())
	}
	if w.cursor >= w.b.Len() {
		return false, nil
	}
	for len(w.wait.Records) == 0 {
		if err := w.fill(disk); err != nil {
			return false, err
		}
	}
	was := w.cursor
	cursor, known, err := to.Take(ctx, w.wait)
	if err != nil {
		return false, err
	}
	if cursor > was {
		done.Put += min(cursor, w.b.Ops()) - min(was, w.b.Ops())
		done.Known, w.cursor = done.Known+known, cursor
	}
	w.drop()
	return w.cursor > was, nil
}

// drop forgets what the region has.
func (w *way) drop() {
	if w.cursor < w.wait.From {
		return
	}
	n := min(w.cursor+1-w.wait.From, uint64(len(w.wait.Records)))
	w.wait.From, w.wait.Records = w.wait.From+n, w.wait.Records[n:]
}

// fill reads on, and numbers anew.
func (w *way) fill(disk *machine.Machine) error {
	w.wait = wire.Records{Origin: w.b.As, Partition: w.p.Partition, From: w.n + 1}
	var err error
	if w.next <= w.b.End.F {
		err = w.read(disk)
	} else {
		w.marks()
	}
	w.wait.Hash = w.hash
	w.drop()
	return err
}

// marks goes on with what has sessions shown anew, after all ops.
func (w *way) marks() {
	for at := int(w.n - w.b.Ops()); at < len(w.b.again) && len(w.wait.Records) < batchOps; at++ {
		w.add(w.b.mark(at))
	}
}

func (w *way) add(record []byte) {
	w.n, w.hash, w.deps = w.n+1, w.hash.Next(record), nil
	w.wait.Records = append(w.wait.Records, record)
}

func (w *way) read(disk *machine.Machine) error {
	records, err := feed(disk, w.b.Origin, w.p.Partition, w.next, batchBytes)
	if err != nil {
		return err
	}
	for _, was := range records[:min(len(records), batchOps)] {
		if err := w.take(was); err != nil {
			return fmt.Errorf("%w: %s at %d: %w", ErrDisk, w.b.Origin, w.next, err)
		}
		w.next++
	}
	return nil
}

// take numbers a record anew, unless it is left out.
func (w *way) take(was []byte) error {
	if w.b.leftOut(w.next) {
		rec, _, err := decode(was)
		if w.deps == nil {
			w.deps = crdt.Vector{}
		}
		w.deps.Merge(rec.Deps)
		return err
	}
	b, err := w.p.record(w.b, w.n == 0, w.deps, was)
	if err != nil {
		return err
	}
	w.add(b)
	return nil
}
