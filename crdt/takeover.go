package crdt

import "unicode/utf8"

// takenPiece bounds a piece of text that is taken over, in bytes.
const takenPiece = 64 << 10

// Home is the region that brings an answer: the one that began it, else the one where the question stands.
func (s *Slot) Home() string {
	if s.State == RunQueued {
		return s.At.Region()
	}
	return s.Attempt.Region
}

// TakeOver returns the reports by which a region begins an attempt in the place of another region's. No worker holds it: one is asked
// to once it stands. They are accepted only if the slot is still as it is here when they are applied: if more has come, whoever brings
// it is not gone. Of an answer whose end was asked for, what has come is taken over with it, and closed.
func (s *Slot) TakeOver(st Store, session string) []*Op {
	ops := []*Op{{Kind: KindBegin, Session: session, Run: s.OID, Attempt: s.Attempt, Off: s.Len, Model: s.Model}}
	if s.StopFin() == "" {
		return ops
	}
	text, off := s.Text(st), uint64(0)
	for text != "" {
		piece := text[:pieceEnd(text)]
		ops = append(ops, &Op{Kind: KindChunk, Session: session, Run: s.OID, Off: off, Text: piece})
		off, text = off+uint64(len(piece)), text[len(piece):]
	}
	return append(ops, &Op{Kind: KindDone, Session: session, Run: s.OID, State: RunStopped, Fin: s.StopFin()})
}

// TakesOver reports whether a report takes an answer over, as TakeOver makes it.
func (op *Op) TakesOver() bool { return op.Kind == KindBegin && op.Nonce == "" }

// pieceEnd is where a piece ends that splits no code point.
func pieceEnd(text string) int {
	end := min(takenPiece, len(text))
	for end < len(text) && end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return end
}

// issueTakeOver judges the begin of a region that takes an answer over. Its attempt is greater than any that the other region makes
// without having seen it.
func (s *Slot) issueTakeOver(op *Op, region string) Verdict {
	switch {
	case s.State.Closed():
		return Closed
	case s.answeredBy(region):
		return Known
	case op.Attempt != s.Attempt || op.Off != s.Len:
		return Superseded
	}
	op.Attempt, op.Off = s.nextAttempt(op, region), 0
	op.Attempt.Epoch++
	s.Attempt, s.Len = op.Attempt, 0
	return Accepted
}

// lastPuts is how many of an origin's ops in a session are looked at for one that a client put.
const lastPuts = 64

// LastPut returns the stamp of the last op that clients put to a session in a region, as far as it is among the last that the region
// gave there; 0: none is.
func LastPut(st Store, region string) (last Stamp) {
	for _, id := range ReadHeader(st).Seen.IDs() {
		last = max(last, lastPutUnder(st, region, id))
	}
	return last
}

func lastPutUnder(st Store, region string, by OriginID) Stamp {
	var oids []string
	left := lastPuts
	st.Scan(dotKey(by, 1), dotKey(by, 1<<63), true, func(_, v []byte) bool {
		if r := decodeRef(v); r.op != "" {
			oids = append(oids, r.op)
		}
		left--
		return left > 0
	})
	for _, oid := range oids {
		if id, ok := Lookup(st, oid); ok && id.By == by && id.At.Region() == region {
			return id.Stamp
		}
	}
	return 0
}
