package gateway

import (
	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// sub is one session open on one connection.
type sub struct {
	conn      *Conn
	session   string
	partition uint8
	id        *int64 // of the open that it answers
	tail      int
	cur       string     // "none", "good" or "bad": what the client came with
	came      position   // what it has seen, if good
	floor     crdt.Floor // of came: what is put comes after it
	order     uint64     // of the partition's subs, in which they came

	// owned by Conn.Work
	open   bool
	closed bool
	behind bool
	pos    position
	told   []string    // own ops that the client was told of before this was open, maybe of copies that do not stand
	before *sub        // the one that it replaces, until it is open
	base   crdt.Vector // while behind: what the region had when the client came
	here   crdt.Vector // while behind: what it had when the client was shown something last
	// lent is what all regions had that were behind when they showed the client something before; nil if none did.
	lent crdt.Vector
	// stated: while behind, own ops of which the client was told where they stand here; it may have seen elsewhere that they do not.
	stated []string
	// replaced: while behind, the client was shown the session anew, so it holds what this region has and no more.
	replaced bool
	cuts     int       // how often the client was shown the session anew since something was removed
	stale    bool      // the client asks with a token that may speak of what it does not hold any more
	resync   bool      // the client has seen what is nowhere any more: it is shown the session as it is, and told so
	tok      *wire.Tok // the last frame written, if it is this session's tok: it gets the cur
}

const (
	curNone = "none"
	curGood = "good"
	curBad  = "bad"
)

func newSub(c *Conn, id *int64, session string, tail *int) *sub {
	return &sub{
		conn: c, session: session, partition: crdt.PartitionOf(session), id: id, tail: tailOf(tail), cur: curNone,
		pos: position{seen: crdt.Vector{}},
	}
}

func tailOf(tail *int) int {
	switch {
	case tail == nil:
		return wire.DefTail
	case *tail < 0:
		return 0
	}
	return min(*tail, wire.MaxTail)
}

// begin takes the token that the client came with.
func (s *sub) begin(pos position, good bool) {
	s.cur = curBad
	if good {
		s.cur, s.came, s.floor, s.lent = curGood, pos, pos.floor, pos.lent
	}
}

func (s *sub) close() { s.conn.g.hub.remove(s) }

// token covers what was sent. While the region is behind its client, what it sends is for the time being, since it may
// change where it meets what the client has seen elsewhere: it is covered once the region has caught up, and until then
// comes again to a client that comes back, here or in another region. It says what was here, without what was seen elsewhere: of
// what was removed by then nothing was shown, and of what is removed later the client may hold something.
func (s *sub) token() string {
	pos := s.pos
	switch {
	case s.behind && s.replaced:
		pos.shown, pos.lent = s.pos.seen.Clone(), s.pos.seen
		pos.shown.Merge(s.came.all())
	case s.behind:
		pos.seen, pos.shown = s.came.seen, s.here.Clone()
		pos.shown.Merge(s.came.shown)
		if pos.lent = s.here; s.lent != nil {
			pos.lent = least(s.here, s.lent)
		}
	}
	return s.conn.g.tokens.Load().mint(&pos, s.conn.user, s.session)
}

// inherit takes over what a client was shown for the time being after the token that it asks again with. The sub before
// shows nothing any more: its answer, if it is waited for, or its cur would speak of what its client may have dropped.
func (s *sub) inherit() {
	if old := s.before; old != nil {
		if old.open && old.behind {
			shown := old.pos.seen.Clone()
			shown.Merge(s.came.shown)
			s.came.shown = shown
			s.lent, s.stale = old.had().Clone(), old.replaced
			if old.lent != nil {
				s.lent = least(s.lent, old.lent)
			}
		}
		old.closed = true
	}
	s.before = nil
}

// clamp takes from what the client has seen what there is not any more, since its origin is closed.
func (s *sub) clamp() { s.clampTo(s.conn.g.cfg.Finals(s.partition), "closed") }

// limit takes from it what no region holds.
func (s *sub) limit() {
	most, all := s.conn.g.cfg.Held(s.partition)
	if !all {
		return
	}
	have, there := s.conn.g.cfg.Backend.Cursors(s.partition), crdt.Finals{}
	for id := range s.came.all() {
		there[id] = max(most[id], have[id])
	}
	s.clampTo(there, "nowhere")
}

func (s *sub) clampTo(finals crdt.Finals, why string) {
	was := s.resync
	for _, v := range []*crdt.Vector{&s.came.seen, &s.came.shown, &s.came.lent, &s.lent} {
		if *v == nil {
			continue
		}
		within, lost := finals.Clamp(*v)
		*v, s.resync = within, s.resync || lost
	}
	if s.resync && !was {
		s.conn.g.metrics.resync.WithLabelValues(why).Inc()
	}
}

// take moves the position over a change and reports whether the client lacks it.
func (s *sub) take(ch *wire.Change) bool {
	if s.behind && !s.replaced {
		s.here[ch.Dot.ID] = max(s.here[ch.Dot.ID], ch.Dot.F)
	}
	if ch.Dot.F <= s.pos.seen[ch.Dot.ID] {
		return false
	}
	s.pos.seen[ch.Dot.ID] = ch.Dot.F
	s.pos.reach(0, ch.Op.Stamp)
	for _, it := range ch.Items {
		if it.Entry != nil {
			s.pos.reach(it.Entry.Seq, 0)
		}
	}
	return true
}

// had is what the region had when it last showed the client something: what is removed later the client may hold, even if it saw
// the removal elsewhere.
func (s *sub) had() crdt.Vector {
	if s.behind && !s.replaced {
		return s.here
	}
	return s.pos.seen
}

// statedMost bounds stated: of more, the client is shown the session anew.
const statedMost = 1024

// state notes which ops of a put, that had been put before, its ok says to stand where they do here.
func (s *sub) state(e *wire.Event) {
	if !s.behind || len(e.Changes) == len(e.Placed) {
		return
	}
	for _, p := range e.Placed {
		if len(s.stated) <= statedMost {
			s.stated = append(s.stated, p.OID)
		}
	}
}

// load reads what an open answers with: a snap for a client without a usable token or that may hold what is gone, else what it
// lacks.
func (s *sub) load() (frame any, err error) {
	err = s.conn.g.cfg.Backend.View(s.session, func(st crdt.Store) {
		h := crdt.ReadHeader(st)
		s.pos = position{seen: h.Seen, floor: crdt.Floor{Seq: h.MaxSeq, Stamp: h.MaxStamp}}
		if snap := s.whole(st, h.Cut); snap != nil {
			snap.ID, frame = s.id, snap
			return
		}
		s.base, s.here = h.Seen.Clone(), h.Seen.Clone()
		since := crdt.Since
		if s.came.shown != nil || len(s.told) > 0 {
			since = crdt.SinceBehind
		}
		items := since(st, s.came.seen)
		s.pos.seen.Merge(s.came.seen)
		s.pos.reach(s.came.floor.Seq, s.came.floor.Stamp)
		frame = &wire.Delta{T: "delta", ID: s.id, S: s.session, Cur: s.token(), Ops: itemFrames(items), Behind: s.sayBehind()}
	})
	return frame, err
}

// whole is what answers a client that is to have all of the session; nil for one that only lacks some.
func (s *sub) whole(st crdt.Store, cut crdt.Vector) *wire.Snap {
	switch {
	case s.cur == curNone:
		return s.snap(st, "new")
	case s.cur == curBad:
		return s.snap(st, "resync")
	case s.resync:
		return s.atFloor(st)
	case s.stale || !s.came.seen.Covers(cut) || s.lent != nil && !s.lent.Covers(cut) || s.lost(st):
		return s.atFloor(st)
	}
	return nil
}

// caughtUp is what a client needs once the region has all that it had seen elsewhere: what that changed of what it was
// shown here in between. It shows the session as it is now, so it brings what still waits in the queue as well.
func (s *sub) caughtUp() (frame any, err error) {
	no := false
	err = s.conn.g.cfg.Backend.View(s.session, func(st crdt.Store) {
		h := crdt.ReadHeader(st)
		shown, since := s.base, func() []crdt.Item { return crdt.Crossed(st, s.base, s.came.seen, s.pos.seen, s.stated) }
		if s.replaced { // it holds nothing that it had seen elsewhere
			shown, since = s.pos.seen, func() []crdt.Item { return crdt.Since(st, s.pos.seen) }
		}
		if s.resync || !shown.Covers(h.Cut) || len(s.stated) > statedMost {
			snap := s.atFloor(st)
			snap.Behind, frame = &no, snap
			return
		}
		delta := &wire.Delta{T: "delta", S: s.session, Behind: &no, Ops: itemFrames(since())}
		s.pos.seen.Merge(h.Seen)
		s.pos.reach(h.MaxSeq, h.MaxStamp)
		delta.Cur, frame = s.token(), delta
	})
	s.base, s.here, s.stated, s.replaced = nil, nil, nil, false
	return frame, err
}

// merged is what a client lacks after another region's copy of the session was merged into the region's; nil for nothing. It
// shows the session as it is now, so it brings what still waits in the queue as well.
func (s *sub) merged() (frame any, err error) {
	err = s.conn.g.cfg.Backend.View(s.session, func(st crdt.Store) {
		h := crdt.ReadHeader(st)
		if !s.had().Covers(h.Cut) {
			frame = s.atFloor(st)
			return
		}
		since := crdt.Since
		if s.came.shown != nil { // as news has it
			since = crdt.SinceBehind
		}
		ops := itemFrames(since(st, s.pos.seen))
		if s.behind && !s.replaced {
			s.here = h.Seen.Clone()
		}
		s.pos.seen.Merge(h.Seen)
		s.pos.reach(h.MaxSeq, h.MaxStamp)
		if len(ops) > 0 {
			frame = &wire.Delta{T: "delta", S: s.session, Cur: s.token(), Ops: ops, Behind: s.sayBehind()}
		}
	})
	return frame, err
}

// holds reports whether the session itself has all that its client has seen: it may be ahead of the region's cursors, while
// another region's state is merged.
func (s *sub) holds() (all bool) {
	err := s.conn.g.cfg.Backend.View(s.session, func(st crdt.Store) { all = crdt.ReadHeader(st).Seen.Covers(s.came.all()) })
	return err == nil && all
}

// sayBehind is nil unless the client has to hear it.
func (s *sub) sayBehind() *bool {
	if !s.behind {
		return nil
	}
	b := true
	return &b
}

func (s *sub) snap(st crdt.Store, why string) *wire.Snap {
	log, more := crdt.Page(st, 0, max(s.tail, 1))
	if s.tail == 0 {
		log, more = nil, len(log) > 0
	}
	snap := &wire.Snap{
		T: "snap", S: s.session, Cur: s.token(), Map: map[string]wire.MapValue{}, Read: crdt.Read(st),
		Log: entryFrames(log), More: more, Why: why,
	}
	for _, m := range crdt.Map(st) {
		snap.Map[m.Key] = wire.MapValue{V: m.Value, HLC: m.Version.String(), User: m.User, OID: m.OID}
	}
	return snap
}

func entryFrames(log []*crdt.Entry) []any {
	all := make([]any, len(log))
	for i, e := range log {
		all[i] = wire.EntryFrame(e)
	}
	return all
}

func itemFrames(items []crdt.Item) []any {
	all := make([]any, 0, len(items))
	for _, it := range items {
		switch {
		case it.Entry != nil:
			all = append(all, wire.EntryFrame(it.Entry))
		case it.Map != nil:
			all = append(all, wire.MapFrame(it.Map))
		}
	}
	return all
}
