// Package sim runs whole Roam, several regions with their clients and workers, in one goroutine and in virtual time,
// breaks it in every way that it promises to survive, and checks what it promises. What runs is the product's own code:
// the region's state machine, the feeds between regions, the gateway's connections, the client's engine, dispatch and the worker.
// Modelled are what these stand on: the network, Raft (a committed log with leaders that die), disks, clocks and Redis's time.
//
// A run is decided by its seed: the same seed does the same again, to the last byte.
package sim
