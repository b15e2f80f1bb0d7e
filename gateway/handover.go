package gateway

import (
	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// What is here is for connections whose sockets are at an edge: they go on at another node with data when theirs ends, and their clients notice nothing.
// What the other node is told is what a client says that comes back, so it shows what one is shown that comes back.

// maxHanded bounds, in bytes, what is told of a connection. One of which there is more to say ends, and its client comes back.
const maxHanded = 1 << 20

// handing is what a connection's writer is told that is to hand it over.
type handing struct {
	token, device string
	subs          []*sub
}

// handOver has the connection handed over once nothing of it is under way. It is Receive's: no frame comes after it.
func (c *Conn) handOver() {
	h := &handing{token: c.token, device: c.device}
	for _, s := range c.subs {
		h.subs = append(h.subs, s)
	}
	c.send(item{kind: itemHandOver, frame: h})
}

// beginPut counts a put until endPut.
func (c *Conn) beginPut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
}

// endPut is called when the answer to a put was queued or written.
func (c *Conn) endPut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.puts--; c.waits && c.puts == 0 {
		c.wake()
	}
}

// isHanding begins to hand the connection over.
func (c *Conn) isHanding(h *handing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handing, c.waits = h, true
}

// still reports whether the connection can be handed over: the client was told all that it is to hear from here.
func (c *Conn) still() bool {
	if c.handing == nil || len(c.held) > 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.puts == 0 && len(c.queue) == 0
}

// hand hands the connection over, and ends it here.
func (c *Conn) hand() error {
	h := c.handed()
	x, far := c.t.(*guest)
	if !far || proto.Size(h) > maxHanded {
		return c.hangUp(&item{frame: wire.Errorf(wire.Unavailable, "this node is going away: come back with your cur"), status: wire.StatusGoingAway})
	}
	if err := x.put(&peerpb.ToClient{Conn: x.id, Handed: h}); err != nil {
		return err
	}
	return errEnded
}

// handed is what another node has to know of the connection.
func (c *Conn) handed() *peerpb.Handed {
	if !c.welcomed { // its hello is still to come
		return &peerpb.Handed{}
	}
	h := &peerpb.Handed{Token: c.handing.token, Device: c.handing.device}
	for _, s := range c.handing.subs {
		h.Sessions = append(h.Sessions, s.handed())
	}
	for _, u := range c.unsafe {
		h.Waiting = append(h.Waiting, &peerpb.HandedOp{Session: u.session, Oid: u.oid, Origin: string(u.dot.Origin), F: u.dot.F})
	}
	return h
}

func (s *sub) handed() *peerpb.HandedSession {
	h := &peerpb.HandedSession{
		Session: s.session, Tail: int64(s.tail), Answered: s.open || s.again, Id: s.id, Behind: s.open && s.behind || !s.open && s.wasBehind,
		Stale: !s.open && s.stale, Told: s.told,
	}
	switch {
	case s.open:
		h.Cur = s.cursor()
	case s.cur == curGood:
		h.Cur = s.conn.g.tokens.Load().mint(&s.came, s.conn.user, s.session)
	case s.cur == curBad:
		h.Cur = curBad // which is none
	}
	return h
}

// resume takes on a connection that was another node's, before Receive and Work run.
func (c *Conn) resume(h *peerpb.Handed) {
	c.greeted, c.welcomed = true, true
	id, err := c.g.cfg.Auth.Authenticate(h.Token)
	if err != nil { // it was good a moment ago
		c.end(wire.Errorf(wire.Unauthorized, "%v", err), wire.StatusExpired)
		return
	}
	c.device, c.user, c.token = h.Device, id.User, h.Token
	c.assume(id)
	for _, o := range h.Sessions {
		c.reopen(o)
	}
	for _, u := range h.Waiting[:min(len(h.Waiting), maxUnsafe)] {
		if origin, err := crdt.ParseOrigin(u.Origin); err == nil {
			dot := crdt.Dot{Origin: origin, ID: origin.ID(), Partition: crdt.PartitionOf(u.Session), F: u.F}
			c.unsafe = append(c.unsafe, unsafePut{session: u.Session, oid: u.Oid, dot: dot})
		}
	}
	c.recheck()
}

func (c *Conn) reopen(o *peerpb.HandedSession) {
	if err := c.allow(o.Session, false); err != nil || c.subs[o.Session] != nil || len(c.subs) >= wire.MaxOpen {
		c.end(wire.Errorf(wire.Unavailable, "the session %.150q cannot be opened as it was: come back with your cur", o.Session), wire.StatusGoingAway)
		return
	}
	tail := int(o.Tail)
	s := newSub(c, o.Id, o.Session, &tail)
	s.again, s.wasBehind, s.stale, s.told = o.Answered, o.Behind, o.Stale, o.Told[:min(len(o.Told), toldMost+1)]
	if s.again {
		s.id = nil
	}
	if o.Cur != "" {
		pos, err := c.g.tokens.Load().parse(o.Cur, c.user, o.Session)
		s.begin(pos, err == nil)
	}
	c.subs[o.Session] = s
	c.g.hub.add(s)
	c.send(item{kind: itemOpen, sub: s})
}
