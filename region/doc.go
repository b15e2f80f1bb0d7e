// Package region holds one region's ordered, durable copy of its sessions.
//
// A put is acknowledged after a majority of the region's data nodes has it on disk. Every node applies the same
// entries to its own Pebble: session state, feeds, cursors and the applied index move in one batch. What a region
// issues is numbered per partition without gaps, under an incarnation that is never used again after data was lost;
// what it takes from other regions' feeds is contiguous, checked by hash, and applied only after its causes.
//
// It refuses to know clients, other regions' addresses, Redis, and what an op means: crdt decides that.
package region
