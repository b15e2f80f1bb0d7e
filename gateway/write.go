package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// flushBytes is when what was encoded is sent before more is.
const flushBytes = 256 << 10

// outbox collects frames for one WebSocket message.
type outbox struct {
	frames []any
	toks   []*sub       // whose tok is the last of its session so far
	spans  []trace.Span // of deliveries that are watched
}

var errEnded = errors.New("connection ended")

// finish stops taking items: nobody writes them any more.
func (c *Conn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended, c.queue = true, nil
}

// work does items in order and sends what comes of them.
func (c *Conn) work(items []item) error {
	if c.due.Load() {
		items = append(items, item{kind: itemRecheck})
	}
	for i := range items {
		it := &items[i]
		if it.kind == itemEnd {
			return c.hangUp(it)
		}
		if err := c.do(it); err != nil {
			return c.hangUp(&item{frame: wire.ErrorOf(err), status: wire.StatusGoingAway})
		}
		if len(c.out.frames) >= 64 {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

func (c *Conn) do(it *item) error {
	switch it.kind {
	case itemFrame:
		_, welcome := it.frame.(*wire.Welcome)
		c.welcomed = c.welcomed || welcome
		c.write(it.frame)
	case itemMove:
		if c.welcomed {
			c.write(it.frame)
		}
	case itemEvent:
		if it.ticket.conn != nil {
			defer c.endPut()
		}
		return c.event(it)
	case itemOutcome:
		c.outcome(nil, it.event, it.ticket, "")
		c.endPut()
	case itemHandOver:
		c.isHanding(it.frame.(*handing))
	case itemOpen:
		return c.answerOpen(it.sub)
	case itemCovered, itemLate:
		return c.covered(it.sub, it.kind == itemCovered)
	case itemNowhere:
		c.nowhere(it.sub)
	case itemMerged:
		return c.merged(it.sub)
	case itemClose:
		it.sub.closed = true
	case itemPage:
		return c.page(it.frame.(*wire.ClientFrame))
	case itemTraced:
		if it.sub.open && !it.sub.closed {
			c.out.spans = append(c.out.spans, it.frame.(trace.Span))
		}
	case itemRecheck:
		c.mu.Lock()
		c.checked = false
		c.mu.Unlock()
		return c.reach()
	}
	return nil
}

func (c *Conn) write(frame any) { c.out.frames = append(c.out.frames, frame) }

// writeFor writes a frame that bears its session's cur, or ends it.
func (c *Conn) writeFor(s *sub, frame any) {
	if s != nil {
		s.tok = nil
	}
	c.write(frame)
}

// answerOpen answers at once if the region holds all that the client has seen, and else waits for that.
func (c *Conn) answerOpen(s *sub) error {
	s.inherit()
	s.await()
	s.clamp()
	have := c.g.cfg.Backend.Cursors(s.partition)
	if s.cur == curGood && !have.Covers(s.left) && !s.holds() {
		c.g.cfg.Clock.AfterFunc(c.g.cfg.BehindAfter, func() { c.send(item{kind: itemLate, sub: s}) })
		c.g.cfg.Peers.Hasten(s.partition)
		c.g.hub.await(s)
		return nil
	}
	return c.first(s)
}

// first answers an open.
func (c *Conn) first(s *sub) error {
	if s.closed {
		return nil
	}
	s.open = true
	return c.show(s, opened)
}

// show shows the client what it is to be shown of a session at a moment.
func (c *Conn) show(s *sub, at moment) error {
	frame, err := s.show(at)
	if frame != nil && err == nil {
		c.writeFor(s, frame)
	}
	return err
}

// covered ends a wait: the region has caught up with the client, or it is too late to go on waiting.
func (c *Conn) covered(s *sub, all bool) error {
	switch {
	case s.closed || s.open && !s.behind:
		return nil
	case !s.open:
		s.clamp() // what it came for may have been closed meanwhile
		if s.behind = !all; s.behind {
			c.lookLater(s)
		}
		return c.first(s)
	case all:
		s.clamp()
		s.behind = false
		return c.show(s, caughtUp)
	}
	return nil
}

func (c *Conn) lookLater(s *sub) {
	c.g.cfg.Clock.AfterFunc(nowhereAfter, func() { c.send(item{kind: itemNowhere, sub: s}) })
}

// nowhere looks whether what the region lacks of what its client has seen is in any other one, and stops waiting for what is not: an origin
// may have been lost with its name. What is there goes on coming first: the way to it may not have been there before.
func (c *Conn) nowhere(s *sub) {
	if s.closed || !s.behind {
		return
	}
	c.g.hub.leave(s)
	s.limit()
	c.g.cfg.Peers.Hasten(s.partition)
	c.g.hub.await(s)
	c.lookLater(s)
}

// merged shows what another region's copy of the session has brought.
func (c *Conn) merged(s *sub) error {
	if s.closed || !s.open {
		return nil // it is shown when it is open
	}
	return c.show(s, merged)
}

// event shows what changed in a session that is open here. If it was this connection's put, the ok stands at its
// place, and only what the client cannot know is sent with it.
func (c *Conn) event(it *item) error {
	s, e := it.sub, it.event
	own := it.ticket.conn != nil
	if s.closed || !s.open {
		if own {
			s.tell(e.Placed)
			c.outcome(s, e, it.ticket, "")
		}
		return nil
	}
	before := ""
	if own {
		before = s.cursor()                             // the runs of a put come before its ok, and must not cover it
		if s.behind && len(e.Changes) < len(e.Placed) { // some had been put before
			s.tell(e.Placed)
		}
	}
	show, cut, ahead := c.news(s, e, own)
	if own && ahead && !cut {
		var err error
		if cut, err = c.gone(s, e.Placed); err != nil {
			return err
		}
	}
	if cut || own && e.Gone {
		return c.cut(s, it, before)
	}
	if own {
		show = append(show, e.Stands...)
	}
	c.showItems(s, show, before)
	if own {
		c.outcome(s, e, it.ticket, s.cursor())
	}
	return nil
}

// news is what a client lacks of an event, but for its own ops; cut: some of what it holds may be gone; ahead: it was shown the session
// as it was after some of that.
func (c *Conn) news(s *sub, e *wire.Event, own bool) (show []crdt.Item, cut, ahead bool) {
	for i := range e.Changes {
		ch := &e.Changes[i]
		if ch.Op.Kind.Removes() && ch.Dot.F > s.had()[ch.Dot.ID] {
			cut = true // also if the client has seen it elsewhere: it was shown since what that removes
		}
		if !s.take(ch) {
			ahead = true
			continue
		}
		for _, item := range ch.Items {
			switch {
			case item.Removal != nil: // that is what cut is for
			case item.Again && !s.mixed():
			case !own || !isOp(item, ch.Op):
				show = append(show, item)
			}
		}
	}
	return show, cut, ahead
}

// isOp reports whether an item is only the op itself, as its putter knows it.
func isOp(it crdt.Item, op *crdt.Op) bool {
	return (it.Entry != nil && it.Entry.OID == op.OID) || (it.Map != nil && it.Map.OID == op.OID)
}

func (c *Conn) showItems(s *sub, items []crdt.Item, cur string) {
	var ops []any
	for _, it := range items {
		if it.Tok != nil {
			c.tok(s, it.Tok)
		}
	}
	if ops = itemFrames(items); len(ops) == 0 {
		return
	}
	if cur == "" {
		cur = s.cursor()
	}
	c.writeFor(s, &wire.Delta{T: "delta", S: s.session, Cur: cur, Ops: ops})
}

// tok writes a piece of an answer, joined to the one before if that waits too.
func (c *Conn) tok(s *sub, t *crdt.Tok) {
	ep := t.Attempt.String()
	if last := s.tok; last != nil && last.Run == t.Run && last.Ep == ep && last.Off+uint64(len(last.D)) == t.Off {
		last.D += t.Text
		return
	}
	s.tok = &wire.Tok{T: "tok", S: s.session, Run: t.Run, Ep: ep, Off: t.Off, D: t.Text}
	c.out.toks = append(c.out.toks, s)
	c.write(s.tok)
}

// outcome writes the answer to a put, with the cur of its session if that is open.
func (c *Conn) outcome(s *sub, e *wire.Event, t ticket, cur string) {
	if e.Refused != nil {
		err := wire.ErrorOf(e.Refused)
		c.took(t, c.g.metrics.putBad)
		c.g.metrics.refused.WithLabelValues(string(err.Code)).Inc()
		c.write(errFrame(&t.id, e.Session, err))
		return
	}
	ok := &wire.Ok{T: "ok", ID: t.id, S: e.Session}
	c.took(t, c.g.metrics.putOk)
	for _, p := range e.Placed {
		at := wire.At{OID: p.OID, Seq: p.Place.Seq, At: p.Place.At}
		if p.Place.Seq == 0 {
			at.HLC = p.Version.String()
		}
		ok.At = append(ok.At, at)
	}
	reach := c.reachOf(e.Placed)
	if t.regions > reach.Regions {
		h := &heldOk{ok: ok, sub: s, placed: e.Placed, regions: t.regions, until: c.g.now().Add(regionsWait)}
		if s != nil {
			h.cuts = s.cuts
		}
		c.hold(h)
		return
	}
	ok.Cur = cur
	c.writeOk(ok, s, e.Placed, reach)
}

// took measures a put up to here.
func (c *Conn) took(t ticket, as prometheus.Observer) {
	as.Observe((c.g.age() - t.since).Seconds())
}

// flush sends what was written as one message, one frame a line. The last tok of each session gets its cur: all that
// it covers stands before it.
func (c *Conn) flush() error {
	err := c.flushFrames()
	if len(c.out.spans) > 0 {
		c.out.delivered(err)
	}
	return err
}

func (c *Conn) flushFrames() error {
	for _, s := range c.out.toks {
		if s.tok != nil {
			s.tok.Cur = s.cursor()
			s.tok = nil
		}
	}
	c.out.toks = c.out.toks[:0]
	if len(c.out.frames) == 0 {
		return nil
	}
	e := encoders.Get().(*encoder)
	defer e.release()
	b := &e.b
	for _, f := range c.out.frames {
		if err := e.enc.Encode(f); err != nil {
			c.g.cfg.Logger.Error("frame not encoded", "err", err)
			c.g.metrics.dropped.WithLabelValues("encoding").Inc()
			return errEnded // what follows would hide the hole
		}
		if b.Len() >= flushBytes {
			if err := c.sendMessage(b); err != nil {
				return err
			}
		}
	}
	clear(c.out.frames)
	c.out.frames = c.out.frames[:0]
	return c.sendMessage(b)
}

// encoder is for a message that is being written: an idle connection holds none.
type encoder struct {
	b   bytes.Buffer
	enc *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := &encoder{}
	e.enc = json.NewEncoder(&e.b)
	e.enc.SetEscapeHTML(false)
	return e
}}

// keepBytes is the largest buffer that is kept for the next message: few are as large as a snap.
const keepBytes = 32 << 10

func (e *encoder) release() {
	if e.b.Cap() > keepBytes {
		return
	}
	e.b.Reset()
	encoders.Put(e)
}

func (c *Conn) sendMessage(b *bytes.Buffer) error {
	if b.Len() == 0 {
		return nil
	}
	err := c.t.Write(bytes.TrimSuffix(b.Bytes(), []byte{'\n'}))
	b.Reset()
	return err
}

// hangUp says why, if there is a reason, and closes.
func (c *Conn) hangUp(it *item) error {
	why, ok := it.frame.(*wire.Error)
	if !ok {
		return errEnded
	}
	c.write(errFrame(it.id, "", why))
	if err := c.flush(); err != nil {
		return err
	}
	c.g.metrics.closed.WithLabelValues(strconv.Itoa(int(it.status))).Inc()
	c.t.Close(it.status, closeReason(why.Msg))
	return errEnded
}
