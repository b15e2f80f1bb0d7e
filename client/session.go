package client

import (
	"maps"
	"time"
)

const (
	// askTimeout is how long an open may go unanswered before it may be sent again.
	askTimeout = 10 * time.Second
	// askPause is the least time between two times of asking again, so that a region whose answers never fit is
	// not asked in a loop.
	askPause = time.Second
)

// session is what the core holds of one session. Its owner is the Client's lock.
type session struct {
	id      string
	open    bool // somebody holds the handle
	replica *replica
	cur     string // the token received last
	anew    bool   // it need not cover what the last op was put after
	region  string // of the connection
	live    bool   // the answer to open came on this connection
	behind  bool
	err     error
	queue   queue
	adding  int        // ops on their way into the outbox
	gone    []*pending // left the outbox, not yet forgotten by it

	// asking again
	want    bool // an open is to be sent
	fresh   bool // without cur
	asking  int64
	greeted bool // it was asked for by the hello
	askedAt time.Time
	after   time.Time         // not before
	gaps    int               // pieces that did not fit, since one did
	paging  int64             // the page asked for, 0 if none: one that was asked for before a snap does not fit to it
	doubted map[string]string // run -> the sum for which it was asked again

	changed chan struct{} // closed at the next change
}

func newSession(id string) *session {
	return &session{id: id, anew: true, replica: newReplica(), doubted: map[string]string{}, changed: make(chan struct{})}
}

// touch tells those who watch.
func (s *session) touch() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// follows is what the next op is put after: the token, and whether that was begun anew since the op before.
func (s *session) follows() (cur string, anew bool) {
	anew, s.anew = s.anew, false
	return s.cur, anew
}

// ask marks the session as asked for by request id and returns what to ask.
func (s *session) ask(id int64, now time.Time) openItem {
	it := openItem{S: s.id, Cur: s.cur}
	if s.fresh {
		it.Cur = ""
	}
	if it.Cur == "" {
		s.queue.unknown()
	}
	s.want, s.asking, s.askedAt, s.greeted = false, id, now, false
	s.after = now.Add(askPause)
	return it
}

func (s *session) wantOpen(now time.Time) bool {
	if s.asking != 0 && now.Sub(s.askedAt) >= askTimeout {
		s.want, s.asking = true, 0
	}
	return s.open && s.want && s.asking == 0 && !now.Before(s.after)
}

// askAgain notes that what is held needs the region's help; fresh: all of it.
func (s *session) askAgain(fresh bool) {
	s.want = true
	s.fresh = s.fresh || fresh
}

func (s *session) lost() {
	s.live, s.asking, s.region, s.paging = false, 0, "", 0
	s.want, s.after, s.err = s.open, time.Time{}, nil
	s.queue.lost()
	s.touch()
}

// leave drops what is held, since nobody has the session open any more.
func (s *session) leave() {
	s.open, s.live, s.want, s.asking, s.cur, s.paging, s.anew = false, false, false, 0, "", 0, true
	s.replica, s.behind, s.err = newReplica(), false, nil
	s.queue.unknown()
	s.touch()
}

// receive takes a frame of this session.
func (s *session) receive(f *frame, now time.Time, user, device string) []note {
	defer s.touch()
	switch f.T {
	case "ok":
		s.stored(f, user, device)
	case "safe":
		s.safe(s.queue.pick(f.OIDs))
	case "snap", "delta", "tok", "page":
		if s.open {
			return s.content(f)
		}
	}
	return nil
}

// content takes a frame of the session's stream. Its token is taken last, and only if the frame was: a token covers
// all before it, so one that follows something missing would hide the loss.
func (s *session) content(f *frame) (notes []note) {
	answers := s.answers(f)
	if answers {
		s.asking, s.live, s.err, s.fresh, s.behind = 0, true, nil, false, false
	}
	if !s.live {
		return nil // of an open that this connection did not ask, or whose answer did not come yet
	}
	switch f.T {
	case "snap":
		s.gaps, s.paging, s.anew = 0, 0, true
		notes = s.doubt(s.replica.snap(f))
		if f.Why == "resync" {
			s.queue.again()
		}
	case "delta":
		notes = s.doubt(s.replica.take(f.Ops))
	case "page":
		if f.ID == s.paging && f.ID != 0 {
			s.paging = 0
			notes = s.doubt(s.replica.older(f))
		}
	case "tok":
		s.piece(s.replica.tok(f))
	}
	s.token(f)
	return notes
}

// answers reports whether a frame is the answer to the open that is under way. What comes first after a hello is; any other is known
// by its id: what was sent to an open before it may still come.
func (s *session) answers(f *frame) bool {
	if s.asking == 0 || f.T != "snap" && f.T != "delta" {
		return false
	}
	return f.ID == s.asking || f.ID == 0 && s.greeted
}

// token takes a frame's resume token, unless something is missing before it.
func (s *session) token(f *frame) {
	if f.Cur != "" && s.live && s.asking == 0 && !s.want {
		s.cur = f.Cur
	}
	if f.Behind != nil {
		s.behind = *f.Behind
	}
}

// piece notes how a piece fitted: after a first gap what is missing is asked for, after a second the whole.
func (s *session) piece(v fit) {
	switch v {
	case fits:
		s.gaps = 0
	case gap:
		if s.asking == 0 && !s.want {
			s.gaps++
			s.askAgain(s.gaps > 1)
		}
	}
}

// doubt asks for the whole session again when a closed answer's text is not what it should be, once for each.
func (s *session) doubt(runs []string) (notes []note) {
	for _, run := range runs {
		e := s.replica.byOID[run]
		if s.doubted[run] == e.answer.sum {
			e.broken, e.shown = true, nil
			continue
		}
		s.doubted[run] = e.answer.sum
		s.askAgain(true)
		notes = append(notes, note{"an answer is not what its sum says: asking again", []any{"session", s.id, "run", run}})
	}
	return notes
}

// stored takes an ok: to a put, or to something that needs no more.
func (s *session) stored(f *frame, user, device string) {
	if f.ID != s.queue.flight || f.ID == 0 {
		s.token(f)
		return
	}
	batch := s.queue.landed()
	at := map[string]placed{}
	for _, p := range f.At {
		at[p.OID] = p
	}
	for _, p := range batch {
		p.stage = max(p.stage, Stored)
		if where, ok := at[p.op.OID]; ok && s.live && (where.HLC != "" || !p.op.onMap()) {
			s.replica.own(p, where, user, device)
		} else if s.asking == 0 && (p.op.K == KindMessage || p.op.onMap()) {
			s.askAgain(false) // it is stored, and neither this nor an answer that is under way says where
		}
	}
	s.token(f)
	if f.Safe {
		s.safe(batch)
	}
}

// safe takes ops out of the outbox.
func (s *session) safe(ops []*pending) {
	for _, p := range ops {
		p.stage = Safe
	}
	s.drop(ops)
}

// fail takes ops out of the outbox that will never be stored.
func (s *session) fail(ops []*pending, why error) {
	for _, p := range ops {
		p.stage, p.err = Refused, why
	}
	s.drop(ops)
}

func (s *session) drop(ops []*pending) {
	s.queue.remove(ops)
	s.gone = append(s.gone, ops...)
	s.touch()
}

// refused takes an err for a request of this session.
func (s *session) refused(f *frame, why *Refusal, now time.Time) {
	defer s.touch()
	switch {
	case f.ID != 0 && f.ID == s.paging:
		s.paging = 0
	case f.ID != 0 && f.ID == s.queue.flight:
		s.fail(s.queue.refused(why, f.Retry, now), why)
	case s.asking != 0 && (f.ID == s.asking || f.ID == 0):
		s.asking = 0
		wait, ok := retryable(why, f.Retry)
		if !ok {
			s.err = why
			return
		}
		s.want, s.after = true, now.Add(wait)
	}
}

// due tells when the session has something to do.
func (s *session) due(sooner func(time.Time)) {
	if s.queue.flight != 0 {
		sooner(s.queue.since.Add(putTimeout))
	} else if s.queue.unsent() {
		sooner(s.queue.after)
	}
	if s.asking != 0 {
		sooner(s.askedAt.Add(askTimeout))
	} else if s.want && s.open && s.err == nil {
		sooner(s.after)
	}
}

// state copies what is held.
func (s *session) state() State {
	st := State{
		Session: s.id, Log: s.replica.show(), Map: maps.Clone(s.replica.vals), Read: maps.Clone(s.replica.read),
		More: s.replica.more, Why: s.replica.why, Live: s.live, Region: "", Behind: s.behind, Err: s.err,
	}
	if s.live {
		st.Region = s.region
	}
	for _, p := range s.queue.ops {
		own := OwnOp{OID: p.op.OID, Kind: p.op.K, Stage: p.stage, Put: p.born}
		if p.op.Text != nil {
			own.Text = *p.op.Text
		}
		st.Outbox = append(st.Outbox, own)
	}
	return st
}
