// Package wire holds what crosses a boundary: the frames that clients and gateways exchange, and what the parts of
// a region, its workers and other regions tell each other. It decodes and bounds everything before anyone acts on
// it, and knows nothing of sockets, storage or time.
package wire
