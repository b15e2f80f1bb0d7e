package machine

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/roamsync/roam/crdt"
)

// Reader reads ordered keys.
type Reader interface {
	// Get returns a copy, nil if there is none.
	Get(k []byte) ([]byte, error)
	// Scan visits the keys from lo to before hi, in order or in reverse, until visit returns false. What visit is given
	// is valid until it returns.
	Scan(lo, hi []byte, reverse bool, visit func(k, v []byte) bool) error
}

// Store keeps a machine's state.
type Store interface {
	Reader
	// Snapshot is the state as it is now.
	Snapshot() Snapshot
	// Batch is a change of the state.
	Batch() Batch
}

// Snapshot is a state that does not change.
type Snapshot interface {
	Reader
	Close() error
}

// Batch is a change that becomes the state at once, or never. A crash may undo the last batches, and no others.
type Batch interface {
	Set(k, v []byte) error
	Delete(k []byte) error
	// DeleteRange deletes the keys from lo to before hi, those that the batch has set too.
	DeleteRange(lo, hi []byte) error
	Commit() error
	Close() error
}

// sessionStore maps one session's elements onto Pebble, and keeps the partition's digest in step. Its first error
// sticks: from then on it answers as if empty, and its owner must not trust what came out.
type sessionStore struct {
	read   Reader // a snapshot, or what an entry has made of the state so far
	write  *layer // the latter; nil: read only
	prefix []byte
	digest *uint64
	kept   *kept        // what entries leave at hand
	head   *crdt.Header // as it was last read or written; nil: read it
	err    error
	buf    []byte
}

// idle are stores of sessions that no entry is using.
type idle []*sessionStore

// take returns one to be opened.
func (i *idle) take(m *Machine) *sessionStore {
	if n := len(*i); n > 0 {
		st := (*i)[n-1]
		*i = (*i)[:n-1]
		return st
	}
	l := newLayer(m.cfg.Store, nil, &m.mem)
	return &sessionStore{read: l, write: l}
}

// give takes a store back, after the entry.
func (i *idle) give(st *sessionStore) {
	if len(*i) < batchSessions {
		*i = append(*i, st)
	}
}

// batchSessions bounds the stores that wait for the next entry: about as many as one has sessions.
const batchSessions = 1024

// open makes it the store of a session for an entry.
func (s *sessionStore) open(k *kept, digest *uint64) {
	s.write.reset(k.elements)
	s.kept, s.prefix, s.digest, s.head, s.buf = k, k.prefix, digest, k.head, append(s.buf[:0], k.prefix...)
	k.gather(s)
}

// KeptHeader implements crdt.HeaderKeeper.
func (s *sessionStore) KeptHeader() *crdt.Header { return s.head }

// KeepHeader implements crdt.HeaderKeeper.
func (s *sessionStore) KeepHeader(h *crdt.Header) {
	if s.write != nil { // a reader's is as it was, but may be shared
		s.head = h
	}
}

func (s *sessionStore) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// usualKey is the size that most keys of elements fit into.
const usualKey = 96

func (s *sessionStore) key(k []byte) []byte {
	if len(s.buf) == 0 {
		s.buf = append(make([]byte, 0, len(s.prefix)+usualKey), s.prefix...)
	}
	s.buf = append(s.buf[:len(s.prefix)], k...)
	return s.buf
}

// Get implements crdt.Store.
func (s *sessionStore) Get(k []byte) []byte {
	key := s.key(k)
	if s.kept != nil && s.kept.header != nil && crdt.IsHeader(k) {
		if c := s.write.find(key); c != nil {
			return c.value
		}
		return s.kept.header
	}
	v, err := s.read.Get(key)
	if err != nil {
		s.fail(err)
	}
	return v
}

// LacksOID implements crdt.OIDKeeper.
func (s *sessionStore) LacksOID(oid string) bool { return s.kept != nil && s.kept.lacks(oid) }

// Room implements crdt.Roomer: an entry's memory is there until what it has changed is in the store.
func (s *sessionStore) Room(n int) []byte {
	if s.write == nil {
		return make([]byte, 0, n)
	}
	return s.write.mem.room(n)
}

// Set implements crdt.Store.
func (s *sessionStore) Set(k, v []byte) {
	if old := s.Get(k); old != nil {
		*s.digest -= s.hash(k, old)
	}
	s.put(k, v)
}

// Add implements crdt.Adder.
func (s *sessionStore) Add(k, v []byte) { s.put(k, v) }

func (s *sessionStore) put(k, v []byte) {
	switch {
	case crdt.IsHeader(k):
		s.head = nil // until it is kept anew
	case crdt.IsIdentity(k):
		s.kept.add(k)
	}
	*s.digest += s.hash(k, v)
	s.write.Own(s.key(k), v)
}

// Delete implements crdt.Store.
func (s *sessionStore) Delete(k []byte) {
	old := s.Get(k)
	if old == nil {
		return
	}
	if crdt.IsHeader(k) {
		s.head = nil
	}
	*s.digest -= s.hash(k, old)
	if err := s.write.Delete(s.key(k)); err != nil {
		s.fail(err)
	}
}

// Scan implements crdt.Store.
func (s *sessionStore) Scan(lo, hi []byte, reverse bool, visit func(k, v []byte) bool) {
	from, to := append(append([]byte{}, s.prefix...), lo...), append(append([]byte{}, s.prefix...), hi...)
	err := s.read.Scan(from, to, reverse, func(k, v []byte) bool { return visit(k[len(s.prefix):], v) })
	if err != nil {
		s.fail(err)
	}
}

// hash is one element's share of its partition's digest.
func (s *sessionStore) hash(k, v []byte) uint64 {
	var room [shortElement]byte
	b := binary.BigEndian.AppendUint32(room[:0], uint32(len(s.prefix)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(k)))
	b = append(append(b, s.prefix[1:]...), k...)
	if len(b)+len(v) <= shortElement {
		return xxhash.Sum64(append(b, v...)) // in one go: a Digest costs as much again
	}
	var d xxhash.Digest
	d.Reset()
	d.Write(b)
	d.Write(v)
	return d.Sum64()
}

// shortElement is the size that most elements, with their keys, fit into.
const shortElement = 512
