package client

import (
	"maps"
	"slices"
	"time"
)

const (
	// askTimeout is how long an open may go unanswered before it is sent again, the first time; each time after that takes twice as long, since
	// the answer may only be long on its way.
	askTimeout = 10 * time.Second
	// maxAsked bounds how often one is sent; from then on the answer is waited for.
	maxAsked = 6
	// askPause is the least time between two times of asking again, so that a region whose answers never fit is
	// not asked in a loop.
	askPause = time.Second
)

// session is what the core holds of one session. Its owner is the Client's lock.
type session struct {
	id      string
	open    bool // somebody holds the handle
	replica *replica
	cur     string // the token received last, not past a gap
	newest  string // the token received last: what is put comes after it
	anew    bool   // it need not cover what the last op was put after
	begun   int    // how often it was begun anew
	count   int    // ops that were put
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
	before  []int64 // asked before for the same: what answers one of them will do
	whole   bool    // that is all of it: it was asked without cur
	greeted bool    // it was asked for by the hello
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

// follows is what the next op is put after.
func (s *session) follows() stand {
	s.count++
	return stand{cur: s.newest, anew: s.anew, n: s.count, begun: s.begun}
}

// put takes an op into the outbox. Only then it is known that one bears the token that was begun anew.
func (s *session) put(p *pending) {
	if p.begun == s.begun {
		s.anew = false
	}
	p.known = s.live
	s.queue.ops = append(s.queue.ops, p)
}

// beginAnew takes it that the next token need not cover what the last one did.
func (s *session) beginAnew() {
	s.anew = true
	s.begun++
}

// ask marks the session as asked for by request id and returns what to ask: once more the same, if that was not answered.
func (s *session) ask(id int64, now time.Time) openItem {
	if s.asking != 0 {
		s.before = append(s.before, s.asking)
	} else {
		s.before, s.greeted, s.whole, s.want = nil, false, s.fresh || s.cur == "", false
	}
	it := openItem{S: s.id, Cur: s.cur}
	if s.whole {
		it.Cur = ""
		s.queue.unknown()
	}
	s.asking, s.askedAt = id, now
	s.after = now.Add(askPause)
	return it
}

// patience is how long the answer may take.
func (s *session) patience() time.Duration { return askTimeout << len(s.before) }

func (s *session) wantOpen(now time.Time) bool {
	if s.asking != 0 {
		return s.open && len(s.before) < maxAsked-1 && now.Sub(s.askedAt) >= s.patience()
	}
	return s.open && s.want && !now.Before(s.after)
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
	s.open, s.live, s.want, s.asking, s.cur, s.newest, s.paging = false, false, false, 0, "", "", 0
	s.beginAnew()
	s.replica, s.behind, s.err = newReplica(), false, nil
	s.queue.unknown()
	s.touch()
	s.release()
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
		s.asking, s.live, s.err, s.behind = 0, true, nil, false
		s.fresh = s.fresh && !s.whole // else it is asked for all of it next
	}
	if !s.live {
		return nil // of an open that this connection did not ask, or whose answer did not come yet
	}
	switch f.T {
	case "snap":
		s.gaps, s.paging = 0, 0
		s.beginAnew()
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

// answers reports whether a frame is the answer to the open that is under way, or to the same before. What comes first after a hello is; any
// other is known by its id: what was sent to another open before may still come.
func (s *session) answers(f *frame) bool {
	if s.asking == 0 || f.T != "snap" && f.T != "delta" {
		return false
	}
	return f.ID == s.asking || f.ID == 0 && s.greeted || f.ID != 0 && slices.Contains(s.before, f.ID)
}

// token takes a frame's resume token, unless something is missing before it. For what is put next it counts all the same: its user is shown
// what came.
func (s *session) token(f *frame) {
	if f.Cur != "" && s.live {
		s.newest = f.Cur
		if s.asking == 0 && !s.want {
			s.cur = f.Cur
			if s.queue.cover(stand{cur: s.cur, n: s.count + 1, begun: s.begun}) {
				s.release()
			}
		}
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
		s.queue.placed(p)
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

// safe takes it that ops need not be put again, but for the order of those that came after them.
func (s *session) safe(ops []*pending) {
	for _, p := range ops {
		p.stage = Safe
	}
	s.touch()
	s.release()
}

// release takes out of the outbox what need not be kept any more.
func (s *session) release() { s.drop(s.queue.done(s.open && s.err == nil)) }

// fail takes ops out of the outbox that will never be stored, and returns how many. Those that are safe were only put again for the order of
// others.
func (s *session) fail(ops []*pending, why error) (n int) {
	for _, p := range ops {
		if p.stage != Safe {
			p.stage, p.err = Refused, why
			n++
		}
	}
	s.drop(ops)
	s.release()
	return n
}

func (s *session) drop(ops []*pending) {
	if len(ops) == 0 {
		return
	}
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
			s.release()
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
		if len(s.before) < maxAsked-1 {
			sooner(s.askedAt.Add(s.patience()))
		}
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
		if p.stage == Safe {
			continue
		}
		own := OwnOp{OID: p.op.OID, Kind: p.op.K, Stage: p.stage, Put: p.born}
		if p.op.Text != nil {
			own.Text = *p.op.Text
		}
		st.Outbox = append(st.Outbox, own)
	}
	return st
}
