package machine

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

const (
	// coldChunk is what the memory of a shelf grows by.
	coldChunk = 1 << 20
	// coldChunks bounds the chunks of a shelf: where a record is has 32 bits.
	coldChunks = 1<<12 - 1
	// coldRecord bounds what is remembered of a session; of one that needs more, nothing is.
	coldRecord = 4 << 10
	// coldOIDs bounds the oids that are remembered of a session; of one that has more, none are.
	coldOIDs = 64
)

// cold remembers of sessions that are no longer hot what the next op needs first: the header, and which oids there are. That is about a
// hundred bytes for most, without a pointer, so that it can be had of a million sessions, where each look into a store that is larger than memory costs
// more than applying an op. There are two shelves: when the young one is full, what is on the old one is forgotten. A session is hot or
// cold, never both, so what is remembered is what the store holds. It is owned by who applies.
type cold struct {
	young, old shelf
	chunk      int    // bytes
	bound      int    // chunks of a shelf
	record     []byte // room for one
}

// shelf is records, one after the other.
type shelf struct {
	at     map[uint64]uint32 // by the hash of a session's name: which byte of which chunk
	chunks [][]byte
	used   int // chunks that are full, or in use
}

func newCold(bytes int) *cold {
	return &cold{chunk: coldChunk, bound: min(bytes/2/coldChunk, coldChunks)}
}

// put remembers a session that is no longer hot.
func (c *cold) put(session string, k *kept) {
	if len(k.header) == 0 || c.bound == 0 {
		return
	}
	if c.record = appendCold(c.record[:0], session, k); len(c.record) > min(coldRecord, c.chunk) {
		return
	}
	if hash := xxhash.Sum64String(session); !c.add(hash) {
		c.young, c.old = c.old, c.young
		c.young.clear()
		c.add(hash)
	}
}

// take gives back what is remembered of a session, and forgets it; false: nothing is.
func (c *cold) take(session string, k *kept) bool {
	hash := xxhash.Sum64String(session)
	return c.young.take(hash, session, k, c.chunk) || c.old.take(hash, session, k, c.chunk)
}

// add puts the record on the young shelf, if that is not full.
func (c *cold) add(hash uint64) bool {
	s := &c.young
	if s.used == 0 || len(s.chunks[s.used-1])+len(c.record) > c.chunk {
		if s.used == c.bound {
			return false
		}
		if s.used == len(s.chunks) {
			s.chunks = append(s.chunks, make([]byte, 0, c.chunk))
		}
		s.used++
	}
	if s.at == nil {
		s.at = map[uint64]uint32{}
	}
	last := s.used - 1
	s.at[hash] = uint32(last*c.chunk + len(s.chunks[last]))
	s.chunks[last] = append(s.chunks[last], c.record...)
	return true
}

// clear empties the shelf, whose memory stays for what comes.
func (s *shelf) clear() {
	clear(s.at)
	for i := range s.chunks {
		s.chunks[i] = s.chunks[i][:0]
	}
	s.used = 0
}

func (s *shelf) take(hash uint64, session string, k *kept, chunk int) bool {
	at, there := s.at[hash]
	if !there || !readCold(s.chunks[int(at)/chunk][int(at)%chunk:], session, k) {
		return false // another session may have the same hash
	}
	delete(s.at, hash)
	return true
}

// appendCold appends what is remembered of a session: its name, its header, and one more than the oids that follow; 0: not all are known.
func appendCold(b []byte, session string, k *kept) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(session))), session...)
	b = append(binary.AppendUvarint(b, uint64(len(k.header))), k.header...)
	if k.oids == nil || k.oids.n > coldOIDs {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(k.oids.n)+1)
	for _, hash := range k.oids.slots {
		if hash != 0 {
			b = binary.LittleEndian.AppendUint32(b, hash)
		}
	}
	return b
}

// readCold reads what appendCold wrote, if it is of that session.
func readCold(b []byte, session string, k *kept) bool {
	name, b := cutCold(b)
	if string(name) != session {
		return false
	}
	header, b := cutCold(b)
	k.header = append([]byte(nil), header...)
	count, n := binary.Uvarint(b)
	if b = b[n:]; count == 0 {
		return true
	}
	k.oids = &oids{}
	k.oids.reserve(int(count) - 1)
	for ; count > 1; count, b = count-1, b[4:] {
		k.oids.add(binary.LittleEndian.Uint32(b))
	}
	return true
}

func cutCold(b []byte) (v, rest []byte) {
	size, n := binary.Uvarint(b)
	return b[n : n+int(size)], b[n+int(size):]
}
