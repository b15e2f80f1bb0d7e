package wire

import "github.com/roamsync/roam/crdt"

// TracedOp returns a record's op if its journey is watched, and nil for nearly all records, which it does not decode.
func TracedOp(record []byte) *crdt.Op {
	if !crdt.MayBeTraced(record) {
		return nil
	}
	r, err := DecodeRecord(record)
	if err != nil {
		return nil
	}
	op, err := crdt.DecodeOp(r.Op)
	if err != nil || op.Trace == nil {
		return nil
	}
	return op
}
