package crdt

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// A ref is what the index of dots says of an op: what it touched, and where it was put.
type ref struct {
	op   string   // oid; "" for an op of an answer
	seq  uint64   // of this copy, which may not be the one that stands; 0: it takes no place
	runs []string // answer slots: those that the op asked for, or the one whose answer it is of
}

// appendOpRef says what a client's op touched: itself, and the answer slots it asked for.
func appendOpRef(b []byte, op *Op) []byte {
	if op.lastSeq() > 0 {
		b = binary.BigEndian.AppendUint64(append(b, classEntry), op.Seq)
	} else {
		b = append(b, classIdentity)
	}
	b = append(b, op.OID...)
	for _, seed := range op.slots() {
		b = append(append(b, 0), seed.oid...)
	}
	return b
}

func slotRef(run string) []byte { return append([]byte{classSlot}, run...) }

func decodeRef(b []byte) (r ref) {
	rest := b[1:]
	switch b[0] {
	case classSlot:
		return ref{runs: []string{string(rest)}}
	case classEntry:
		r.seq, rest = be64dec(rest), rest[8:]
	}
	op, runs, more := bytes.Cut(rest, zero)
	r.op = string(op)
	if more {
		r.runs = strings.Split(string(runs), "\x00")
	}
	return r
}
