package app

import "sync"

const heapFloorBytes = 64 << 20

// keepHeapFloor is for programs that are one node. What it keeps is never read or written, so that the machine has no memory for it; but it counts as what
// is alive when the runtime decides how much may be allocated until garbage is collected again. A node whose own heap is small, as most are, collects once
// in 80 MiB, not once in 20: that took a twentieth of its processors under load.
var keepHeapFloor = sync.OnceValue(func() []byte { return make([]byte, heapFloorBytes) })
