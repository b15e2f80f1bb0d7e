package crdt

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// Reasons to refuse a put. A refused put changes nothing, in whole.
var (
	ErrConflict = errors.New("another op has this oid")
	ErrNotFound = errors.New("not found")
	ErrBusy     = errors.New("another answer of the session is running")
	ErrLimit    = errors.New("the session is full")
)

// MaxSeq bounds a session's log, so that every seq is exact in JSON: 2⁵³.
const MaxSeq = 1 << 53

// Floor is what a client has seen elsewhere: what it puts comes after.
type Floor struct {
	Seq   uint64
	Stamp Stamp
}

// Check reports why a put cannot be accepted as it is now, or nil. It looks at all ops before any is applied, so
// that a put is all or none.
func Check(st Store, ops []*Op, floor Floor) error {
	created := map[string]bool{}
	if max(ReadHeader(st).MaxSeq, floor.Seq)+uint64(len(ops))*64 > MaxSeq {
		return ErrLimit
	}
	for _, op := range ops {
		if err := check(st, op, created); err != nil {
			return fmt.Errorf("oid %q: %w", op.OID, err)
		}
		if op.Kind == KindMsg {
			created[op.OID] = true
		}
		for _, seed := range op.slots() {
			created[seed.oid] = true
		}
	}
	return nil
}

func check(st Store, op *Op, created map[string]bool) error {
	if id, ok := Lookup(st, op.OID); ok {
		if id.Hash != op.ContentHash() {
			return ErrConflict
		}
		return nil
	}
	switch {
	case op.Kind == KindRun && !created[op.Of] && !isMessage(st, op.Of):
		return fmt.Errorf("message %q: %w", op.Of, ErrNotFound)
	case op.Kind == KindStop && op.Run != "" && !created[op.Run]:
		if _, ok := ReadSlot(st, op.Run); !ok && !removedRun(st, op.Run) {
			return fmt.Errorf("run %q: %w", op.Run, ErrNotFound)
		}
	}
	if op.Busy == BusyReject && len(op.slots()) > 0 && len(OpenRuns(st)) > 0 {
		return ErrBusy
	}
	return nil
}

func isMessage(st Store, oid string) bool {
	id, ok := Lookup(st, oid)
	return ok && id.Kind == KindMsg && !id.Removed
}

// Issue completes an op that Check let through, in the region that accepts it: its place, and what it refers to.
// known is true for a retry, which is not to be applied; id then is where the first try stands.
func Issue(st Store, op *Op, floor Floor) (id Identity, known bool) {
	if id, known = Lookup(st, op.OID); known {
		return id, true
	}
	h := ReadHeader(st)
	switch op.Kind {
	case KindMsg, KindRun:
		op.Seq = max(h.MaxSeq, floor.Seq) + 1
		if op.Busy == BusyInterrupt {
			op.Runs = OpenRuns(st)
		}
	case KindStop:
		op.Runs = []string{op.Run}
		if op.Run == "" {
			op.Runs = OpenRuns(st)
		}
	case KindRead:
		op.Seq = min(op.ReadSeq, max(h.MaxSeq, floor.Seq)) // what the client has seen elsewhere it may have read
	case KindForget:
		op.Seen = h.Seen.Clone()
	}
	return Identity{}, false
}

// Verdict is what becomes of a worker's report.
type Verdict uint8

// The verdicts on a worker's report.
const (
	Accepted   Verdict = iota // apply it
	Known                     // held already: nothing to apply
	Gap                       // what precedes it is missing: send again from Held.Len
	Leased                    // another worker's attempt is alive
	Superseded                // the attempt is not the one that stands, or this region does not answer the question
	Closed                    // the answer is closed
	Unknown                   // no such answer
)

// Held is what a region holds of an answer: what its worker is told.
type Held struct {
	Verdict Verdict
	Attempt Attempt
	Len     uint64
	Stop    bool // a user asked for the end
}

// IssueAnswer completes a worker's report (begin, chunk, done) in the region that it works for, and judges it. The
// op is to be applied only when the verdict is Accepted. A report names its attempt by the worker's nonce; one without
// comes from the region itself: a begin takes another region's answer over (see TakeOver), and a done closes whatever stands.
func IssueAnswer(st Store, op *Op, region string) Held {
	s, ok := ReadSlot(st, op.Run)
	if !ok {
		return Held{Verdict: Unknown}
	}
	var v Verdict
	switch op.Kind {
	case KindBegin:
		v = s.issueBegin(op, region)
	case KindChunk:
		v = s.issueChunk(op, region)
	default:
		v = s.issueDone(st, op, region)
	}
	return Held{Verdict: v, Attempt: s.Attempt, Len: s.Len, Stop: s.Stop != 0}
}

func (s *Slot) issueBegin(op *Op, region string) Verdict {
	switch {
	case op.TakesOver():
		return s.issueTakeOver(op, region)
	case s.State.Closed() || s.Stop != 0:
		return Closed
	case s.State == RunRunning && s.Nonce == op.Nonce && s.Attempt.Region == region:
		return Known
	case !s.answeredBy(region):
		return Superseded
	case s.Leased(op.Stamp):
		return Leased
	}
	op.Attempt = s.nextAttempt(op, region)
	s.Attempt, s.Len = op.Attempt, 0
	return Accepted
}

// answeredBy reports whether a region may open an attempt: the one that began, or else the one where the question
// stands.
func (s *Slot) answeredBy(region string) bool {
	return s.Home() == region
}

// nextAttempt is greater than the one that stands, and by how much depends on who opens it: a region that has lost an
// attempt, and opens another in its place, must not give it the same number.
func (s *Slot) nextAttempt(op *Op, region string) Attempt {
	who := xxhash.Sum64String(op.Nonce)
	if op.Nonce == "" {
		who = xxhash.Sum64(be64(uint64(op.Stamp)))
	}
	return Attempt{Epoch: max(s.Attempt.Epoch, 1), Region: region, N: s.Attempt.N + 1 + uint32(who%attemptGap)}
}

// attemptGap bounds what an attempt's number grows by.
const attemptGap = 1 << 12

// Revoke returns the op that takes an open attempt from its worker, for a region that goes on under a new incarnation: what
// the worker has reported under the old one may be lost here and known elsewhere, so that the two would not be one text. Nil if
// there is nothing to take.
func Revoke(st Store, session, run, region string, stamp Stamp) *Op {
	s, ok := ReadSlot(st, run)
	if !ok || s.State != RunRunning || s.Attempt.Region != region {
		return nil
	}
	op := &Op{Kind: KindBegin, Session: session, Run: run, Stamp: stamp, Model: s.Model}
	op.Attempt = s.nextAttempt(op, region)
	return op
}

func (s *Slot) issueChunk(op *Op, region string) Verdict {
	if v := s.standing(op.Nonce, region); v != Accepted {
		return v
	}
	if op.Off > s.Len {
		return Gap
	}
	skip := s.Len - op.Off
	if skip > uint64(len(op.Text)) || (skip == uint64(len(op.Text)) && skip > 0) {
		return Known
	}
	op.Text, op.Off, op.Attempt = op.Text[skip:], s.Len, s.Attempt
	if op.Text != "" && !utf8.RuneStart(op.Text[0]) {
		return Gap
	}
	s.Len += uint64(len(op.Text))
	return Accepted
}

// standing judges whether a worker of this region still holds the attempt. No other region adds to it or closes it.
func (s *Slot) standing(nonce, region string) Verdict {
	switch {
	case s.Nonce != nonce || s.Attempt.Region != region:
		return Superseded
	case s.State.Closed():
		return Closed
	}
	return Accepted
}

func (s *Slot) issueDone(st Store, op *Op, region string) Verdict {
	if op.Nonce != "" {
		if v := s.standing(op.Nonce, region); v != Accepted {
			return v
		}
		if op.Off > s.Len {
			return Gap
		}
	} else if s.State.Closed() {
		return Closed
	} else if !s.answeredBy(region) {
		return Superseded
	}
	if s.State == RunQueued {
		s.Attempt = s.nextAttempt(op, region)
	}
	text := s.Text(st)
	op.Attempt, op.Off, op.Len, op.Sum = s.Attempt, 0, uint64(len(text)), SumOf(text)
	return Accepted
}
