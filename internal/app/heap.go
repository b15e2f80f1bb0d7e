package app

import (
	"math"
	"runtime/debug"
	"sync"
)

const heapFloorBytes = 128 << 20

// keepHeapFloor is for programs that are one node. What it keeps is never read or written, so that the machine has no memory for it; but it counts as what
// is alive when the runtime decides how much may be allocated until garbage is collected again. A node whose own heap is small, as most are, collects once
// in 150 MiB, not once in 20: that took a twentieth of its processors under load, and of several on one machine all at once. Whoever bounds the memory by
// GOMEMLIMIT, which counts it too, does without.
var keepHeapFloor = sync.OnceValue(func() []byte {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return nil
	}
	return make([]byte, heapFloorBytes)
})
