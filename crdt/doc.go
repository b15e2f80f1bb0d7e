// Package crdt holds what a chat session is and how its copies agree.
//
// A session is a log of entries (messages and answer slots, sorted by Place), a map of registers (settings,
// edits, reactions: the greatest Stamp wins) and read marks. It changes only by an Op. The region that accepts an
// op completes it (Issue) and numbers it with a Dot; every region then integrates it (Apply). Two copies that have
// applied the same set of ops, in any order that respects each op's causes, hold the same bytes; Merge joins two
// copies and is commutative, associative and idempotent.
//
// A session's elements live behind Store, so that a copy may be larger than memory. The package is pure values: it
// knows nothing of I/O, goroutines, locks, contexts, logs or the time of day; whatever varies is stamped into the
// op before it comes here.
package crdt
