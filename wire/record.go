package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/roamsync/roam/crdt"
)

// Hash is a feed's running hash after a record: it covers all records up to that one.
type Hash [16]byte

// String returns the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// FeedStart is the hash of an empty feed.
func FeedStart(origin crdt.Origin, partition uint8) Hash {
	sum := sha256.Sum256(fmt.Appendf(nil, "roam feed\x00%s\x00%d", origin, partition))
	return Hash(sum[:16])
}

// Next returns the running hash after one more record.
func (h Hash) Next(record []byte) Hash {
	_, next := h.Chain(make([]byte, 0, len(h)+len(record)), record)
	return next
}

// Chain appends a record after its running hash to room, which is empty: as feeds are kept. It returns that hash, too.
func (h Hash) Chain(room, record []byte) (kept []byte, next Hash) {
	kept = append(append(room, h[:]...), record...)
	sum := sha256.Sum256(kept)
	next = Hash(sum[:len(h)])
	copy(kept, next[:])
	return kept, next
}

// Record is an op as its origin's feed holds it. Its f is its position; origin and partition are the feed's.
type Record struct {
	// Deps is what the issuer had applied of other origins' feeds of the partition, where that had grown since its
	// record before. Who applies records in order therefore has all causes when it has these.
	Deps crdt.Vector
	// Op is the op's canonical encoding.
	Op []byte
}

// ErrRecord marks bytes that are not a record.
var ErrRecord = errors.New("bad feed record")

const (
	recordDeps protowire.Number = 1
	recordOp   protowire.Number = 2
)

// Encode returns the canonical bytes, which the feed's hash covers.
func (r Record) Encode() []byte { return r.Append(make([]byte, 0, len(r.Op)+8+len(r.Deps)*12)) }

// Append appends those bytes.
func (r Record) Append(b []byte) []byte {
	if deps := crdt.EncodeVector(r.Deps); len(deps) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, recordDeps, protowire.BytesType), deps)
	}
	return protowire.AppendBytes(protowire.AppendTag(b, recordOp, protowire.BytesType), r.Op)
}

// DecodeRecord is the inverse of Encode, and refuses any other form of the same record; Op shares b.
func DecodeRecord(b []byte) (Record, error) {
	var r Record
	deps, b, err := consumeBytes(b, recordDeps, true)
	if err != nil {
		return r, err
	}
	if r.Deps, err = crdt.DecodeVector(deps); err != nil {
		return r, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if r.Op, b, err = consumeBytes(b, recordOp, false); err != nil {
		return r, err
	}
	if len(b) > 0 {
		return r, fmt.Errorf("%w: %d bytes too many", ErrRecord, len(b))
	}
	return r, nil
}

func consumeBytes(b []byte, want protowire.Number, optional bool) (v, rest []byte, err error) {
	num, typ, n := protowire.ConsumeTag(b)
	if optional && n > 0 && num != want {
		return nil, b, nil
	}
	if n != protowire.SizeTag(want) || num != want || typ != protowire.BytesType {
		return nil, nil, fmt.Errorf("%w: field %d expected", ErrRecord, want)
	}
	v, m := protowire.ConsumeBytes(b[n:])
	if m < 0 {
		return nil, nil, fmt.Errorf("%w: field %d is cut short", ErrRecord, want)
	}
	if m != protowire.SizeBytes(len(v)) || (optional && len(v) == 0) {
		return nil, nil, fmt.Errorf("%w: field %d is not canonical", ErrRecord, want)
	}
	return v, b[n+m:], nil
}

// Records is a contiguous run of one feed: the records From, From+1, …, each encoded.
type Records struct {
	Origin    crdt.Origin
	Partition uint8
	From      uint64
	Records   [][]byte
	// Hash is the running hash after the last of them.
	Hash Hash
}

// Last returns the f of the last record, From-1 if there is none.
func (r *Records) Last() uint64 { return r.From + uint64(len(r.Records)) - 1 }

// Position is a place in a feed, with the running hash there.
type Position struct {
	F    uint64
	Hash Hash
}
