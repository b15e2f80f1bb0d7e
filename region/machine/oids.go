package machine

import "github.com/cespare/xxhash/v2"

// oids are the hashes of all oids of a session: what is not among them is not in the store, what is may be. Each op looks for its own oid,
// which hardly ever is there: 16 bits of a hash
// make a look of one in a thousand of them, if there are 64. It is a table of as many slots as a power of two, at most half full; 0 is a free one.
type oids struct {
	slots []uint16
	n     int
}

// oidHash is the size of a hash.
const oidHash = 2

// fewOIDs is how many a table begins with room for.
const fewOIDs = 4

func hashOID(oid []byte) uint16 { return max(uint16(xxhash.Sum64(oid)), 1) }

// has reports whether an oid of that hash may be there.
func (o *oids) has(hash uint16) bool {
	if o.n == 0 {
		return false
	}
	return o.slots[o.place(hash)] == hash
}

// place is where a hash is, or would be.
func (o *oids) place(hash uint16) int {
	mask := len(o.slots) - 1
	at := int(hash) & mask
	for o.slots[at] != 0 && o.slots[at] != hash {
		at = (at + 1) & mask
	}
	return at
}

// add takes a hash in.
func (o *oids) add(hash uint16) {
	o.reserve(o.n + 1)
	if at := o.place(hash); o.slots[at] == 0 {
		o.slots[at] = hash
		o.n++
	}
}

// reserve makes room for n.
func (o *oids) reserve(n int) {
	size := max(len(o.slots), 2*fewOIDs)
	for size < 2*n {
		size *= 2
	}
	if size == len(o.slots) {
		return
	}
	held := o.slots
	o.slots = make([]uint16, size)
	for _, hash := range held {
		if hash != 0 {
			o.slots[o.place(hash)] = hash
		}
	}
}
