// Package bubble tests whole regions in fake time: real Raft, membership, gRPC, gateways, dispatch and the SDK, each node with a
// disk and a network in memory, all inside a testing/synctest bubble. Minutes of cuts and crashes take seconds, and what is not
// synced when a node crashes is gone.
//
// Clients are held to the protocol frame by frame (internal/check), and regions to their promises by what a client and an
// operator can see: sessions and /v1/status. A seed decides what happens; what the scheduler makes of it is not repeated.
package bubble
