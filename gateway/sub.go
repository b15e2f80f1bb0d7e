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
	floor     crdt.Floor // of what the client came with: what is put comes after it
	order     uint64     // of the partition's subs, in which they came

	// owned by Conn.Work
	holding
	open   bool
	closed bool
	// again: another node has answered its open, and wasBehind: has told the client that the region is behind.
	again, wasBehind bool
	before           *sub      // the one that it replaces, until it is open
	cuts             int       // how often the client was shown the session anew since something was removed
	tok              *wire.Tok // the last frame written, if it is this session's tok: it gets the cur
}

func newSub(c *Conn, id *int64, session string, tail *int) *sub {
	return &sub{
		conn: c, session: session, partition: crdt.PartitionOf(session), id: id, tail: tailOf(tail),
		holding: holding{cur: curNone, pos: position{seen: crdt.Vector{}}},
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
	s.holding.begin(pos, good)
	s.floor = s.came.floor
}

// after has what is put come after what the client had seen when it opened the session before, on this connection: it may have dropped that, but its
// user has seen it.
func (s *sub) after(floor crdt.Floor) {
	at := &s.came.floor
	at.Seq, at.Stamp = max(at.Seq, floor.Seq), max(at.Stamp, floor.Stamp)
	s.floor = *at
}

func (s *sub) close() { s.conn.g.hub.remove(s) }

// cursor is the token of what the client was shown.
func (s *sub) cursor() string {
	pos := s.token()
	return s.conn.g.tokens.Load().mint(&pos, s.conn.user, s.session)
}

// inherit takes over what the sub before has shown. That shows nothing any more: its answer, if it is waited for, or its cur would speak of
// what its client may have dropped.
func (s *sub) inherit() {
	if old := s.before; old != nil {
		s.holding.inherit(&old.holding, old.open)
		old.closed = true
	}
	s.before = nil
}

// clamp takes from what is waited for what there is not any more, since its origin is closed.
func (s *sub) clamp() { s.clampTo(s.conn.g.cfg.Finals(s.partition), "closed") }

// limit takes from it what no region holds.
func (s *sub) limit() {
	most, all := s.conn.g.cfg.Held(s.partition)
	if !all {
		return
	}
	have, there := s.conn.g.cfg.Backend.Cursors(s.partition), crdt.Finals{}
	for id := range s.left {
		there[id] = max(most[id], have[id])
	}
	s.clampTo(there, "nowhere")
}

func (s *sub) clampTo(finals crdt.Finals, why string) {
	if s.holding.clamp(finals) {
		s.conn.g.metrics.resync.WithLabelValues(why).Inc()
	}
}

// show reads what the client is to be shown at a moment; nil: nothing.
func (s *sub) show(at moment) (frame any, err error) {
	err = s.conn.g.cfg.Backend.View(s.session, func(st crdt.Store) {
		h := crdt.ReadHeader(st)
		why := s.decide(at, h.Cut, at == opened && s.lost(st))
		if why != "" {
			s.anew(h)
			if at != opened || s.cur == curGood {
				s.cuts++
			}
			frame = s.snap(st, at, why)
			return
		}
		items := s.lacks(at, st)
		s.more(at, h)
		if len(items) > 0 || s.speaks(at) {
			frame = &wire.Delta{T: "delta", ID: s.answers(at), S: s.session, Cur: s.cursor(), Ops: itemFrames(items), Behind: s.sayBehind(at)}
		}
	})
	return frame, err
}

// answers is the id of the open that a frame answers; nil: it answers none.
func (s *sub) answers(at moment) *int64 {
	if at == opened {
		return s.id
	}
	return nil
}

// speaks reports whether the client is to hear something even if it lacks nothing.
func (s *sub) speaks(at moment) bool {
	if at == opened && s.again {
		return s.sayBehind(at) != nil
	}
	return at != merged
}

// holds reports whether the session itself has all that its client has seen: it may be ahead of the region's cursors, while
// another region's state is merged.
func (s *sub) holds() (all bool) {
	err := s.conn.g.cfg.Backend.View(s.session, func(st crdt.Store) { all = crdt.ReadHeader(st).Seen.Covers(s.left) })
	return err == nil && all
}

// sayBehind is nil unless the client has to hear it.
func (s *sub) sayBehind(at moment) *bool {
	behind := s.behind
	if !behind && at != caughtUp && !(at == opened && s.wasBehind) {
		return nil
	}
	return &behind
}

func (s *sub) snap(st crdt.Store, at moment, why string) *wire.Snap {
	log, more := crdt.Page(st, 0, max(s.tail, 1))
	if s.tail == 0 {
		log, more = nil, len(log) > 0
	}
	snap := &wire.Snap{
		T: "snap", ID: s.answers(at), S: s.session, Cur: s.cursor(), Map: map[string]wire.MapValue{}, Read: crdt.Read(st),
		Log: entryFrames(log), More: more, Why: why, Behind: s.sayBehind(at),
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
