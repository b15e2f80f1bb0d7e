package region

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/roamsync/roam/region/machine"
)

// store keeps a machine's state in Pebble, where all its keys bear a prefix.
type store struct {
	reader
	db  *pebble.DB
	way *yielding
}

func (r *Region) store(prefix []byte) store {
	return store{reader{r.db, prefix, func(err error) { r.fail(diskError("read state", err)) }}, r.db, &r.way}
}

// own is what is kept of the node alone.
func (r *Region) own() store { return r.store(nil) }

// Snapshot implements machine.Store.
func (s store) Snapshot() machine.Snapshot {
	snap := s.db.NewSnapshot()
	return snapshot{reader{snap, s.prefix, s.bad}, snap}
}

// Batch implements machine.Store.
func (s store) Batch() machine.Batch {
	return &batch{b: s.db.NewBatch(), prefix: s.prefix, way: s.way}
}

type snapshot struct {
	reader
	snap *pebble.Snapshot
}

// Close implements machine.Snapshot.
func (s snapshot) Close() error { return s.snap.Close() }

// batch is durable with the entry that it comes from: the log brings back what a crash takes.
type batch struct {
	b      *pebble.Batch
	prefix []byte
	way    *yielding
}

// Set implements machine.Batch.
func (b *batch) Set(k, v []byte) error {
	op := b.b.SetDeferred(len(b.prefix)+len(k), len(v))
	copy(op.Key[copy(op.Key, b.prefix):], k)
	copy(op.Value, v)
	return op.Finish()
}

// Delete implements machine.Batch.
func (b *batch) Delete(k []byte) error {
	op := b.b.DeleteDeferred(len(b.prefix) + len(k))
	copy(op.Key[copy(op.Key, b.prefix):], k)
	return op.Finish()
}

// DeleteRange implements machine.Batch.
func (b *batch) DeleteRange(lo, hi []byte) error {
	at := reader{prefix: b.prefix}
	return b.b.DeleteRange(at.key(lo), at.key(hi), nil)
}

// Commit implements machine.Batch.
func (b *batch) Commit() error {
	b.way.written.Add(int64(b.b.Len()))
	return b.b.Commit(pebble.NoSync)
}

// Close implements machine.Batch.
func (b *batch) Close() error { return b.b.Close() }

// reader reads from a database or a snapshot of it.
type reader struct {
	r      pebble.Reader
	prefix []byte
	bad    func(error) // told of what cannot be read
}

// key is where Pebble has a key.
func (r reader) key(k []byte) []byte {
	if len(r.prefix) == 0 {
		return k
	}
	return append(append(make([]byte, 0, len(r.prefix)+len(k)), r.prefix...), k...)
}

// Get implements machine.Reader.
func (r reader) Get(k []byte) ([]byte, error) {
	v, closer, err := r.r.Get(r.key(k))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		r.bad(err)
		return nil, err
	}
	defer closer.Close()
	return append(make([]byte, 0, len(v)), v...), nil
}

// Scan implements machine.Reader.
func (r reader) Scan(lo, hi []byte, reverse bool, visit func(k, v []byte) bool) error {
	it, err := r.r.NewIter(&pebble.IterOptions{LowerBound: r.key(lo), UpperBound: r.key(hi)})
	if err != nil {
		return err
	}
	next, ok := it.Next, it.First
	if reverse {
		next, ok = it.Prev, it.Last
	}
	for more := ok(); more && visit(it.Key()[len(r.prefix):], it.Value()); more = next() {
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		r.bad(err)
		return err
	}
	return nil
}
