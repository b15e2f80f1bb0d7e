// Package machine is a region's replicated state machine: what the entries of its log do to the state. It knows of no
// Raft, disk or time; who drives it brings entries in order and a Store to keep the state in. Given equal states and
// entries, every node of a region writes the same.
package machine
