package crdt

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// LeaseTTL is how long an attempt stays its worker's after the last piece that was committed.
const LeaseTTL = 15 * time.Second

// RunState is where an answer is.
type RunState uint8

// The states of an answer; from RunDone on it is closed.
const (
	RunQueued  RunState = 0
	RunRunning RunState = 1
	RunDone    RunState = 2
	RunFailed  RunState = 3
	RunStopped RunState = 4
)

var runStates = [...]string{"queued", "running", "done", "failed", "stopped"}

func (s RunState) String() string {
	if int(s) < len(runStates) {
		return runStates[s]
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// Closed reports whether nothing more will come under this attempt.
func (s RunState) Closed() bool { return s >= RunDone }

// Attempt is one try to fill an answer slot. The greater attempt replaces the smaller; the zero Attempt, of a slot
// that nobody has begun, is smaller than any.
type Attempt struct {
	Epoch  uint32
	Region string
	N      uint32
}

// String is the client's `ep`: strings compare as attempts do.
func (a Attempt) String() string {
	if a == (Attempt{}) {
		return ""
	}
	return fmt.Sprintf("%08x.%s.%08x", a.Epoch, a.Region, a.N)
}

// Compare orders attempts, and agrees with comparing their strings: hence the dot, which ends a region's name.
func (a Attempt) Compare(b Attempt) int {
	if c := cmp.Compare(a.Epoch, b.Epoch); c != 0 || a.Region == b.Region {
		return cmp.Or(c, cmp.Compare(a.N, b.N))
	}
	if a.Region == "" || b.Region == "" {
		return strings.Compare(a.Region, b.Region)
	}
	return strings.Compare(a.Region+".", b.Region+".")
}

func (a Attempt) encode() []byte {
	if a == (Attempt{}) {
		return nil
	}
	e := make(enc, 0, 16+len(a.Region))
	e.uint(1, uint64(a.Epoch))
	e.str(2, a.Region)
	e.uint(3, uint64(a.N))
	return e
}

func decodeAttempt(d *dec) (a Attempt) {
	s := dec{b: d.bytes()}
	for s.next() {
		switch s.num {
		case 1:
			a.Epoch = s.uint32()
		case 2:
			a.Region = s.str()
		case 3:
			a.N = s.uint32()
		default:
			s.fail("unknown field in attempt")
		}
	}
	if s.err != nil {
		d.fail("bad attempt")
	}
	return a
}

// Slot is an answer as its region's state holds it: the standing attempt, and how far it has come.
type Slot struct {
	OID string
	seat
	tenure
}

// seat is where a slot stands, and why: given by the copy of the question that stands.
type seat struct {
	Of     string // the question
	Asked  string // the model asked for; empty for the region's default
	User   string
	Device string
	TS     int64
	Born   Stamp // of the op that created it
	Place
	By OriginID
	F  uint64
}

// tenure is what the standing attempt has brought.
type tenure struct {
	Attempt Attempt
	State   RunState
	Len     uint64 // bytes of text held
	Sum     string
	Fin     string
	Usage   json.RawMessage
	Err     string
	Nonce   string // of the worker that holds the attempt
	Model   string // that serves it
	Active  Stamp  // of the attempt's last op: the lease counts from here
	Stop    uint8  // what a user asked for: 0 nothing, stopInterrupted, stopStopped
}

const (
	stopInterrupted = 1
	stopStopped     = 2
)

// StopFin returns the `fin` of a requested end, or "".
func (s *Slot) StopFin() string {
	switch s.Stop {
	case stopInterrupted:
		return "interrupted"
	case stopStopped:
		return "stopped"
	}
	return ""
}

// Leased reports whether the standing attempt's worker may still be at work.
func (s *Slot) Leased(now Stamp) bool {
	return s.State == RunRunning && s.Nonce != "" && now.Wall() < s.Active.Wall()+LeaseTTL.Milliseconds()
}

// ReadSlot returns an answer slot by its id.
func ReadSlot(st Store, run string) (*Slot, bool) {
	k := slotKey(run)
	b := st.Get(k)
	if len(b) == 0 { // none, or all that is left of one that was removed
		return nil, false
	}
	s, err := decodeSlot(run, b)
	if err != nil {
		corrupt(k, err)
	}
	return s, true
}

// Text returns the whole text held of an answer.
func (s *Slot) Text(st Store) string {
	if s.State.Closed() {
		return string(st.Get(textKey(s.OID)))
	}
	if s.Len == 0 {
		return ""
	}
	var text strings.Builder
	lo, hi := pieceRange(s.OID)
	st.Scan(lo, hi, false, func(_, v []byte) bool {
		text.Write(v[pieceHead:])
		return true
	})
	return text.String()
}

// SumOf is the `sum` of a text: the first 16 hex digits of its SHA-256.
func SumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// OpenRuns lists the answers of a session that are not closed, in order of place.
func OpenRuns(st Store) []string {
	var runs []string
	lo, hi := classRange(classOpen)
	st.Scan(lo, hi, false, func(k, _ []byte) bool {
		_, run := placeOf(k)
		runs = append(runs, run)
		return true
	})
	return runs
}

func (s *Slot) encode() []byte {
	e := make(enc, 0, 256)
	e.str(1, s.Of)
	e.str(2, s.Asked)
	e.str(3, s.User)
	e.str(4, s.Device)
	e.int(5, s.TS)
	e.fixed(6, uint64(s.Born))
	e.uint(7, s.Seq)
	e.str(8, string(s.At))
	e.fixed(9, uint64(s.By))
	e.uint(10, s.F)
	e.bytes(11, s.Attempt.encode())
	e.uint(12, uint64(s.State))
	e.uint(13, s.Len)
	e.str(14, s.Sum)
	e.str(15, s.Fin)
	e.bytes(16, s.Usage)
	e.str(17, s.Err)
	e.str(18, s.Nonce)
	e.str(19, s.Model)
	e.fixed(20, uint64(s.Active))
	e.uint(21, uint64(s.Stop))
	return e
}

func decodeSlot(run string, b []byte) (*Slot, error) {
	s, d := &Slot{OID: run}, dec{b: b, text: string(b)}
	for d.next() {
		switch d.num {
		case 1:
			s.Of = d.str()
		case 2:
			s.Asked = d.str()
		case 3:
			s.User = d.str()
		case 4:
			s.Device = d.str()
		case 5:
			s.TS = d.int()
		case 6:
			s.Born = d.stamp()
		case 7:
			s.Seq = d.uint()
		case 8:
			s.At = Origin(d.str())
		case 9:
			s.By = d.origin()
		case 10:
			s.F = d.uint()
		default:
			s.decodeAttempt(&d)
		}
	}
	return s, d.err
}

func (s *Slot) decodeAttempt(d *dec) {
	switch d.num {
	case 11:
		s.Attempt = decodeAttempt(d)
	case 12:
		s.State = RunState(d.uint8())
	case 13:
		s.Len = d.uint()
	case 14:
		s.Sum = d.str()
	case 15:
		s.Fin = d.str()
	case 16:
		s.Usage = append(json.RawMessage(nil), d.bytes()...)
	case 17:
		s.Err = d.str()
	case 18:
		s.Nonce = d.str()
	case 19:
		s.Model = d.str()
	case 20:
		s.Active = d.stamp()
	case 21:
		s.Stop = d.uint8()
	default:
		d.fail("unknown field")
	}
}

// pieceHead is the length of what precedes a piece's text: the origin id and f of the op that brought it.
const pieceHead = 12

func pieceValue(dot Dot, text string) []byte {
	v := append(be32(uint32(dot.ID)), be64(dot.F)...)
	return append(v, text...)
}

// write stores the slot and keeps the index of open answers in step.
func (s *Slot) write(st Store) {
	st.Set(slotKey(s.OID), s.encode())
	open := s.Place.key(classOpen, s.OID)
	if s.State.Closed() {
		st.Delete(open)
	} else {
		st.Set(open, nil)
	}
}

// dropText removes what is held of the standing attempt, and the dots of its pieces: whoever has not seen them
// will see what replaces them.
func (s *Slot) dropText(st Store) {
	var drop [][]byte
	lo, hi := pieceRange(s.OID)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		drop = append(drop, append([]byte{}, k...), dotKey(OriginID(be32dec(v)), be64dec(v[4:])))
		return true
	})
	for _, k := range drop {
		st.Delete(k)
	}
	st.Delete(textKey(s.OID))
}
