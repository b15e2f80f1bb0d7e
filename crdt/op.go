package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Partitions is the number of partitions, the same in every region, for ever.
const Partitions = 64

// PartitionOf places a session (xxHash64 of its id, seed 0).
func PartitionOf(session string) uint8 { return uint8(xxhash.Sum64String(session) % Partitions) }

// Kind says what an op does. The numbers are part of the encoding; they are never reused.
type Kind uint8

// The kinds of op. Those from KindBegin to KindDone come from workers, through dispatch; a trim, a purge and an expiry come from
// the region itself, and the others from clients.
const (
	KindMsg    Kind = 1  // append a message, and ask Models
	KindRun    Kind = 2  // ask Of again
	KindStop   Kind = 3  // ask to end Run, or every answer
	KindSet    Kind = 4  // register Key := Value
	KindEdit   Kind = 5  // message Of gets Text
	KindDel    Kind = 6  // message Of is deleted
	KindReact  Kind = 7  // User has (or, without On, has not) reaction Key to message Of
	KindRead   Kind = 8  // User has read up to ReadSeq; Seq is that, capped at the end of the log that its user has seen
	KindForget Kind = 9  // all of the session that Seen covers goes
	KindBegin  Kind = 10 // Attempt of Run starts, by worker Nonce
	KindChunk  Kind = 11 // Text at Off of Attempt; without Text it only shows that the worker lives
	KindDone   Kind = 12 // Attempt is closed
	KindTrim   Kind = 13 // the messages up to Seq that Seen covers go, with their answers
	KindPurge  Kind = 14 // all of the session that Seen covers goes: nobody has used it for long
	KindExpire Kind = 15 // the identities of Gone and Runs go, as far as Seen covers them
)

// IsAnswer reports whether the op belongs to an answer's attempt.
func (k Kind) IsAnswer() bool { return k >= KindBegin && k <= KindDone }

// Removes reports whether the op takes others out of the session.
func (k Kind) Removes() bool { return k == KindForget || k == KindTrim || k == KindPurge }

// Busy says what a question does while another answer of the session runs.
type Busy uint8

// The ways to ask while an answer runs.
const (
	BusyQueue     Busy = 0
	BusyInterrupt Busy = 1
	BusyReject    Busy = 2
)

// Op is one change to one session. The client gives its identity (OID) and content; Issue gives Seq and Runs;
// the region's leader gives Stamp and TS. Fields that a kind does not use are zero.
type Op struct {
	Kind    Kind
	Session string
	OID     string // the client's id for it; empty for answer ops, whose identity is (Run, Attempt, Off)
	Seq     uint64 // place of the first entry it creates; for KindRead, the mark; for KindTrim, the last that goes
	Stamp   Stamp
	TS      int64 // milliseconds since 1970, by the accepting leader's clock
	User    string
	Device  string
	Role    string
	Text    string
	Parts   json.RawMessage
	Ext     json.RawMessage
	Key     string
	Value   json.RawMessage // empty: the register is deleted
	Of      string
	Models  []string // an empty name asks the region's default model
	Busy    Busy
	On      bool
	ReadSeq uint64
	Runs    []string // the answers it ends, resolved when it was issued; of an expiry: those of which nothing is left
	Seen    Vector   // of a removal: what its issuer had seen of the session, and no more than that can go
	Gone    []string // of an expiry: the oids that are forgotten
	Base    Vector   // of an expiry: what all regions have, earlier expiries too

	Run     string
	Attempt Attempt
	Off     uint64
	Nonce   string
	Model   string
	State   RunState
	Len     uint64
	Sum     string
	Fin     string
	Usage   json.RawMessage
	Err     string

	// Trace is nil but for ops whose journey is watched. It is carried with the op and shared by its copies, so it is
	// never changed; content hash and state leave it out.
	Trace *Trace

	// Unknown holds fields of later versions: kept, hashed and passed on, never read.
	Unknown []byte
}

// RunID derives an answer's id from its question, so that a question put in two regions has one answer slot.
// index tells slots of one question and model apart: the model's position, or the oid of the op that asked again.
func RunID(of, model, index string) string {
	sum := sha256.Sum256([]byte("run\x00" + of + "\x00" + model + "\x00" + index))
	return "run-" + hex.EncodeToString(sum[:12])
}

// slots lists the answer slots an op creates, in order of place.
func (op *Op) slots() []slotSeed {
	switch op.Kind {
	case KindMsg:
		seeds := make([]slotSeed, len(op.Models))
		for i, m := range op.Models {
			seeds[i] = slotSeed{oid: RunID(op.OID, m, strconv.Itoa(i)), of: op.OID, model: m, seq: op.Seq + 1 + uint64(i)}
		}
		return seeds
	case KindRun:
		return []slotSeed{{oid: RunID(op.Of, op.Model, op.OID), of: op.Of, model: op.Model, seq: op.Seq}}
	}
	return nil
}

type slotSeed struct {
	oid, of, model string
	seq            uint64
}

// lastSeq is the highest seq the op takes; 0 if it takes none.
func (op *Op) lastSeq() uint64 {
	switch op.Kind {
	case KindMsg:
		return op.Seq + uint64(len(op.Models))
	case KindRun:
		return op.Seq
	}
	return 0
}

// ContentHash identifies what the client asked for, without what the region added: an oid that comes again with
// another hash is a conflict, not a retry. The device is left out, since a user may retry from another one.
func (op *Op) ContentHash() [16]byte { return op.contentHash(make([]byte, 0, op.size())) }

// contentHash is ContentHash, with room for the bytes.
func (op *Op) contentHash(room []byte) [16]byte {
	c := *op
	c.Session, c.OID, c.Device, c.Seq, c.Stamp, c.TS, c.Runs, c.Seen, c.Gone, c.Base, c.Trace = "", "", "", 0, 0, 0, nil, nil, nil, nil, nil
	sum := sha256.Sum256(c.Append(room))
	return [16]byte(sum[:16])
}

// Encode returns the canonical bytes.
func (op *Op) Encode() []byte { return op.Append(make([]byte, 0, op.size())) }

// size is about how many bytes Encode returns, and seldom less.
func (op *Op) size() int {
	return 64 + len(op.Session) + len(op.OID) + len(op.User) + len(op.Device) + len(op.Text) + len(op.Parts) + len(op.Ext) +
		len(op.Key) + len(op.Value) + len(op.Of) + len(op.Run) + len(op.Nonce) + len(op.Sum) + len(op.Usage) + len(op.Unknown)
}

// Append appends the canonical bytes.
func (op *Op) Append(b []byte) []byte {
	e := enc(b)
	e.uint(1, uint64(op.Kind))
	e.str(2, op.Session)
	e.str(3, op.OID)
	e.uint(4, op.Seq)
	e.fixed(5, uint64(op.Stamp))
	e.int(6, op.TS-op.Stamp.Wall())
	e.str(7, op.User)
	e.str(8, op.Device)
	e.str(9, op.Role)
	e.str(10, op.Text)
	e.bytes(11, op.Parts)
	e.bytes(12, op.Ext)
	e.str(13, op.Key)
	e.bytes(14, op.Value)
	e.str(15, op.Of)
	for _, m := range op.Models {
		e.element(16, []byte(m))
	}
	e.uint(17, uint64(op.Busy))
	e.bool(18, op.On)
	e.uint(19, op.ReadSeq)
	for _, r := range op.Runs {
		e.element(20, []byte(r))
	}
	op.encodeAnswer(&e)
	return append(e, op.Unknown...)
}

func (op *Op) encodeAnswer(e *enc) {
	e.str(21, op.Run)
	e.bytes(22, op.Attempt.encode())
	e.uint(23, op.Off)
	e.str(24, op.Nonce)
	e.str(25, op.Model)
	e.uint(26, uint64(op.State))
	e.uint(27, op.Len)
	e.str(28, op.Sum)
	e.str(29, op.Fin)
	e.bytes(30, op.Usage)
	e.str(31, op.Err)
	e.bytes(32, op.Trace.encode())
	e.bytes(33, op.Seen.encode())
	for _, oid := range op.Gone {
		e.element(34, []byte(oid))
	}
	e.bytes(35, op.Base.encode())
}

// DecodeOp is the inverse of Encode. The result shares b, but for its strings, which share one copy of it.
func DecodeOp(b []byte) (*Op, error) {
	op, d, delta := &Op{}, dec{b: b, text: string(b)}, int64(0)
	for d.next() {
		switch d.num {
		case 1:
			op.Kind = Kind(d.uint8())
		case 2:
			op.Session = d.str()
		case 3:
			op.OID = d.str()
		case 4:
			op.Seq = d.uint()
		case 5:
			op.Stamp = d.stamp()
		case 6:
			delta = d.int()
		case 7:
			op.User = d.str()
		case 8:
			op.Device = d.str()
		case 9:
			op.Role = d.str()
		case 10:
			op.Text = d.str()
		case 11:
			op.Parts = d.bytes()
		case 12:
			op.Ext = d.bytes()
		default:
			op.decodeRest(&d)
		}
	}
	op.TS = op.Stamp.Wall() + delta
	if d.err != nil {
		return nil, fmt.Errorf("op: %w", d.err)
	}
	return op, nil
}

func (op *Op) decodeRest(d *dec) {
	switch d.num {
	case 13:
		op.Key = d.str()
	case 14:
		op.Value = d.bytes()
	case 15:
		op.Of = d.str()
	case 16:
		op.Models = append(op.Models, d.part(d.member(true)))
	case 17:
		op.Busy = Busy(d.uint8())
	case 18:
		op.On = d.bool()
	case 19:
		op.ReadSeq = d.uint()
	case 20:
		op.Runs = append(op.Runs, d.part(d.member(true)))
	default:
		op.decodeAnswer(d)
	}
}

func (op *Op) decodeAnswer(d *dec) {
	switch d.num {
	case 21:
		op.Run = d.str()
	case 22:
		op.Attempt = decodeAttempt(d)
	case 23:
		op.Off = d.uint()
	case 24:
		op.Nonce = d.str()
	case 25:
		op.Model = d.str()
	case 26:
		op.State = RunState(d.uint8())
	case 27:
		op.Len = d.uint()
	case 28:
		op.Sum = d.str()
	case 29:
		op.Fin = d.str()
	case 30:
		op.Usage = d.bytes()
	case 31:
		op.Err = d.str()
	case 32:
		op.Trace = decodeTrace(d)
	case 33:
		op.Seen = decodeSeen(d)
	case 34:
		op.Gone = append(op.Gone, d.part(d.member(true)))
	case 35:
		op.Base = decodeSeen(d)
	default:
		op.Unknown = d.unknown()
	}
}

func decodeSeen(d *dec) Vector {
	v, err := decodeVector(d.bytes())
	if err != nil {
		d.fail(err.Error())
	}
	return v
}

func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
