package region

import (
	"encoding/binary"
	"errors"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// sessionStore maps one session's elements onto Pebble, and keeps the partition's digest in step. Its first error
// sticks: from then on it answers as if empty, and its owner must not trust what came out.
type sessionStore struct {
	read   pebble.Reader // a snapshot, or the batch with what it has changed so far
	write  *pebble.Batch // nil: read only
	prefix []byte
	digest *uint64
	err    error
	buf    []byte
}

func (s *sessionStore) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *sessionStore) key(k []byte) []byte {
	s.buf = append(append(s.buf[:0], s.prefix...), k...)
	return s.buf
}

// Get implements crdt.Store.
func (s *sessionStore) Get(k []byte) []byte {
	v, err := get(s.read, s.key(k))
	if err != nil {
		s.fail(err)
	}
	return v
}

// get returns a copy, nil if there is none.
func get(r pebble.Reader, k []byte) ([]byte, error) {
	v, closer, err := r.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return append(make([]byte, 0, len(v)), v...), nil
}

// Set implements crdt.Store.
func (s *sessionStore) Set(k, v []byte) {
	if old := s.Get(k); old != nil {
		*s.digest -= s.hash(k, old)
	}
	*s.digest += s.hash(k, v)
	if err := s.write.Set(s.key(k), v, nil); err != nil {
		s.fail(err)
	}
}

// Delete implements crdt.Store.
func (s *sessionStore) Delete(k []byte) {
	old := s.Get(k)
	if old == nil {
		return
	}
	*s.digest -= s.hash(k, old)
	if err := s.write.Delete(s.key(k), nil); err != nil {
		s.fail(err)
	}
}

// Scan implements crdt.Store.
func (s *sessionStore) Scan(lo, hi []byte, reverse bool, visit func(k, v []byte) bool) {
	it, err := s.read.NewIter(&pebble.IterOptions{
		LowerBound: append(append([]byte{}, s.prefix...), lo...),
		UpperBound: append(append([]byte{}, s.prefix...), hi...),
	})
	if err != nil {
		s.fail(err)
		return
	}
	next, ok := it.Next, it.First
	if reverse {
		next, ok = it.Prev, it.Last
	}
	for more := ok(); more; more = next() {
		if !visit(it.Key()[len(s.prefix):], it.Value()) {
			break
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		s.fail(err)
	}
}

// hash is one element's share of its partition's digest.
func (s *sessionStore) hash(k, v []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	var n [8]byte
	binary.BigEndian.PutUint32(n[:4], uint32(len(s.prefix)))
	binary.BigEndian.PutUint32(n[4:], uint32(len(k)))
	d.Write(n[:])
	d.Write(s.prefix[1:])
	d.Write(k)
	d.Write(v)
	return d.Sum64()
}
