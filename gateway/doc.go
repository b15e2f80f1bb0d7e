// Package gateway serves clients over WebSocket in the subprotocol roam.v1.json.
//
// It guarantees that each connection sees each of its sessions in the region's apply order, through one queue: the
// ok of a put stands at the place of its ops, and every cur says exactly what was sent before it. It refuses to know
// how a region commits, what other regions are, or what an op means beyond the frames that show it.
package gateway
