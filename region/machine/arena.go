package machine

const (
	// arenaChunk is what an arena grows by; what is larger gets memory of its own.
	arenaChunk = 64 << 10
	// arenaKept bounds the chunks that stay for the next entry: 4 MiB.
	arenaKept = 64
)

// arena is memory for what lives no longer than an entry is applied: keys, and records until they are in the store.
type arena struct {
	chunks [][]byte
	used   int // chunks that are full, or in use
}

// reset takes all of it back.
func (a *arena) reset() {
	a.chunks, a.used = a.chunks[:min(len(a.chunks), arenaKept)], 0
}

// room returns an empty slice that n bytes fit into.
func (a *arena) room(n int) []byte {
	if n > arenaChunk/4 {
		return make([]byte, 0, n)
	}
	if a.used == 0 || cap(a.chunks[a.used-1])-len(a.chunks[a.used-1]) < n {
		if a.used == len(a.chunks) {
			a.chunks = append(a.chunks, make([]byte, 0, arenaChunk))
		}
		a.chunks[a.used] = a.chunks[a.used][:0]
		a.used++
	}
	c := &a.chunks[a.used-1]
	at := len(*c)
	*c = (*c)[:at+n]
	return (*c)[at : at : at+n]
}

// copy returns a copy of b.
func (a *arena) copy(b []byte) []byte { return append(a.room(len(b)), b...) }
