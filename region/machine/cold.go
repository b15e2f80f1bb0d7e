package machine

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

const (
	// coldChunk is what the memory for cold sessions grows by.
	coldChunk = 1 << 20
	// coldChunks bounds the chunks: where a record is has 32 bits.
	coldChunks = 1<<12 - 1
	// coldOIDs bounds the oids that are remembered of a session; of one that has more, none are.
	coldOIDs = 64
)

// cold remembers of sessions that are no longer hot what the next op needs first: the header, and which oids there are. That is about a
// hundred bytes for most, without a pointer, so that it can be had of a million sessions, where each look into a store that is larger than memory costs
// more than applying an op. Records are in a ring of chunks: when it is full, the oldest chunk is filled anew, beginning with what in it still
// counts, unless that is too much of all: then it is forgotten. A session is hot or cold, never both, so what is remembered is what
// the store holds. It is owned by who applies.
type cold struct {
	at     map[uint64]uint32 // by the hash of a session's name: which byte of which chunk
	chunks [][]byte
	spare  []byte // memory for the next chunk
	head   int    // the chunk that is being filled
	live   int    // bytes of the records that count
	chunk  int    // bytes
	bound  int    // chunks
	record []byte // room for one
}

func newCold(bytes int) *cold {
	return &cold{at: map[uint64]uint32{}, chunk: coldChunk, bound: min(bytes/coldChunk, coldChunks)}
}

// put remembers a session that is no longer hot. Of one whose record is larger than an eighth of a chunk, nothing is.
func (c *cold) put(session string, k *kept) {
	if len(k.header) == 0 || c.bound == 0 {
		return
	}
	if c.record = appendCold(c.record[:0], session, k); len(c.record) > c.chunk/8 {
		return
	}
	for len(c.chunks) == 0 || len(c.chunks[c.head])+len(c.record) > c.chunk {
		c.advance()
	}
	hash := xxhash.Sum64String(session)
	if at, there := c.at[hash]; there { // of another session
		c.live -= coldSize(c.chunks[int(at)/c.chunk][int(at)%c.chunk:])
	}
	c.at[hash] = uint32(c.head*c.chunk + len(c.chunks[c.head]))
	c.chunks[c.head] = append(c.chunks[c.head], c.record...)
	c.live += len(c.record)
}

// advance goes on to the next chunk. After a round none has anything in it that does not count, and an eighth of all is free: so one has room.
func (c *cold) advance() {
	if len(c.chunks) < c.bound {
		c.chunks, c.head = append(c.chunks, make([]byte, 0, c.chunk)), len(c.chunks)
		return
	}
	c.head = (c.head + 1) % len(c.chunks)
	c.clean()
}

// clean leaves in a chunk what counts, as long as all that counts is at most seven eighths.
func (c *cold) clean() {
	old, start, most := c.chunks[c.head], c.head*c.chunk, c.bound*c.chunk/8*7
	if c.spare == nil {
		c.spare = make([]byte, 0, c.chunk)
	}
	b := c.spare[:0]
	for at, size := 0, 0; at < len(old); at += size {
		size = coldSize(old[at:])
		name, _ := cutCold(old[at:])
		hash := xxhash.Sum64(name)
		if now, there := c.at[hash]; !there || int(now) != start+at {
			continue
		}
		if c.live > most {
			delete(c.at, hash)
			c.live -= size
			continue
		}
		c.at[hash] = uint32(start + len(b))
		b = append(b, old[at:at+size]...)
	}
	c.chunks[c.head], c.spare = b, old
}

// take gives back what is remembered of a session, and forgets it; false: nothing is.
func (c *cold) take(session string, k *kept) bool {
	hash := xxhash.Sum64String(session)
	at, there := c.at[hash]
	if !there {
		return false
	}
	b := c.chunks[int(at)/c.chunk][int(at)%c.chunk:]
	if !readCold(b, session, k) {
		return false // another session has the same hash
	}
	delete(c.at, hash)
	c.live -= coldSize(b)
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
			b = binary.LittleEndian.AppendUint16(b, hash)
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
	for ; count > 1; count, b = count-1, b[oidHash:] {
		k.oids.add(binary.LittleEndian.Uint16(b))
	}
	return true
}

// coldSize is the size of the record that b begins with.
func coldSize(b []byte) int {
	_, rest := cutCold(b)
	_, rest = cutCold(rest)
	count, n := binary.Uvarint(rest)
	return len(b) - len(rest) + n + oidHash*int(max(count, 1)-1)
}

func cutCold(b []byte) (v, rest []byte) {
	size, n := binary.Uvarint(b)
	return b[n : n+int(size)], b[n+int(size):]
}
