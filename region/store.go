package region

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/roamsync/roam/region/machine"
)

// store keeps a machine's state in Pebble.
type store struct {
	reader
	db *pebble.DB
}

func newStore(db *pebble.DB) store { return store{reader{db}, db} }

// Snapshot implements machine.Store.
func (s store) Snapshot() machine.Snapshot {
	snap := s.db.NewSnapshot()
	return snapshot{reader{snap}, snap}
}

// Batch implements machine.Store.
func (s store) Batch() machine.Batch {
	b := s.db.NewIndexedBatch()
	return batch{reader{b}, b}
}

type snapshot struct {
	reader
	snap *pebble.Snapshot
}

// Close implements machine.Snapshot.
func (s snapshot) Close() error { return s.snap.Close() }

// batch is durable with the entry that it comes from: the log brings back what a crash takes.
type batch struct {
	reader
	b *pebble.Batch
}

// Set implements machine.Batch.
func (b batch) Set(k, v []byte) error { return b.b.Set(k, v, nil) }

// Delete implements machine.Batch.
func (b batch) Delete(k []byte) error { return b.b.Delete(k, nil) }

// Commit implements machine.Batch.
func (b batch) Commit() error { return b.b.Commit(pebble.NoSync) }

// Close implements machine.Batch.
func (b batch) Close() error { return b.b.Close() }

// reader reads from a database, a snapshot of it, or a batch with what it has changed so far.
type reader struct{ r pebble.Reader }

// Get implements machine.Reader.
func (r reader) Get(k []byte) ([]byte, error) {
	v, closer, err := r.r.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return append(make([]byte, 0, len(v)), v...), nil
}

// Scan implements machine.Reader.
func (r reader) Scan(lo, hi []byte, reverse bool, visit func(k, v []byte) bool) error {
	it, err := r.r.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	next, ok := it.Next, it.First
	if reverse {
		next, ok = it.Prev, it.Last
	}
	for more := ok(); more && visit(it.Key(), it.Value()); more = next() {
	}
	return errors.Join(it.Error(), it.Close())
}
