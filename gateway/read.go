package gateway

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/telemetry"
	"github.com/roamsync/roam/wire"
)

// Receive takes one frame as it came, and reports whether to read on. It is for one goroutine, and so is Work.
func (c *Conn) Receive(line []byte) (more bool) { return c.line(line, len(line) > wire.MaxLine) }

// line handles one frame and reports whether to read on.
func (c *Conn) line(line []byte, tooLong bool) bool {
	var f *wire.ClientFrame
	var err error
	if !tooLong {
		f, err = wire.DecodeFrame(line)
	}
	if tooLong || f != nil && len(line) > wire.MaxFrame+len(f.Cur) {
		f, err = nil, wire.Errorf(wire.TooLarge, "a frame has at most %d bytes; this one was skipped", wire.MaxFrame)
	}
	if !c.greeted {
		c.greeted = c.hello(f, err)
		return c.greeted
	}
	if !c.rate.take(c.g.now()) {
		e := wire.Errorf(wire.RateLimited, "over %d frames a second", wire.MaxRate)
		e.Retry = 1000 / wire.MaxRate * 20
		var id *int64
		if f != nil {
			id = f.ID
		}
		c.fail(id, "", e)
		return true
	}
	switch {
	case err != nil && f != nil:
		c.fail(f.ID, f.S, err)
	case err != nil:
		c.fail(nil, "", err)
	default:
		c.frame(f)
	}
	return true
}

// hello handles the first frame and reports whether the client may go on.
func (c *Conn) hello(f *wire.ClientFrame, err error) bool {
	if err == nil && f.T != "hello" {
		err = wire.Errorf(wire.BadFrame, "the first frame is hello, not %.32q", f.T)
	}
	if err != nil {
		var id *int64
		if f != nil {
			id = f.ID
		}
		c.send(item{kind: itemEnd, id: id, frame: wire.ErrorOf(err), status: wire.StatusBadFrames})
		return false
	}
	id, err := c.g.cfg.Auth.Authenticate(f.Token)
	if err != nil {
		c.g.metrics.refused.WithLabelValues("token").Inc()
		c.send(item{kind: itemEnd, id: f.ID, frame: wire.Errorf(wire.Unauthorized, "%v", err), status: wire.StatusBadToken})
		return false
	}
	c.device = f.Device
	if len(c.device) > wire.MaxName {
		c.device = strings.ToValidUTF8(c.device[:wire.MaxName], "")
	}
	c.user = id.User
	c.keep(f.Token)
	c.assume(id)
	c.send(item{kind: itemFrame, frame: c.welcome(*f.ID)})
	for i, o := range f.Open {
		if i >= wire.MaxOpen {
			c.fail(f.ID, o.S, wire.Errorf(wire.TooLarge, "at most %d sessions are open on a connection", wire.MaxOpen))
			break
		}
		c.open(nil, o.S, o.Cur, o.Tail)
	}
	c.g.metrics.frames.WithLabelValues("hello").Inc()
	return true
}

// keep keeps what the client has said of who it is, if another node may have to hear it.
func (c *Conn) keep(token string) {
	if c.far {
		c.token = token
	}
}

func (c *Conn) welcome(id int64) *wire.Welcome {
	w := &wire.Welcome{
		T: "welcome", ID: id, Conn: c.name, User: c.identity.User, Region: c.g.cfg.Region, Node: c.g.cfg.Node,
		Ping: int(pingEvery.Seconds()), Max: wire.Max{Frame: wire.MaxFrame, Ops: wire.MaxOps, Rate: wire.MaxRate},
		Regions: c.g.cfg.Peers.Regions(),
	}
	if !c.identity.Expires.IsZero() {
		w.Exp = c.identity.Expires.Unix()
	}
	return w
}

// assume takes an identity, and ends the connection when its token does.
func (c *Conn) assume(id Identity) {
	c.identity = id
	if c.expiry != nil {
		c.expiry()
		c.expiry = nil
	}
	if !id.Expires.IsZero() {
		c.expiry = c.g.cfg.Clock.AfterFunc(id.Expires.Sub(c.g.now()), func() {
			c.end(wire.Errorf(wire.Unauthorized, "the token has expired: come back with a fresh one"), wire.StatusExpired)
		})
	}
}

func (c *Conn) frame(f *wire.ClientFrame) {
	counted := f.T
	switch f.T {
	case "open":
		c.open(f.ID, f.S, f.Cur, f.Tail)
	case "close":
		c.closeSession(f)
	case "put":
		if err := c.put(f); err != nil {
			c.fail(f.ID, f.S, err)
		}
	case "page":
		if err := c.askPage(f); err != nil {
			c.fail(f.ID, f.S, err)
		}
	case "sig":
		c.sig(f)
	case "auth":
		c.reauth(f)
	case "pong":
	case "hello":
		c.fail(f.ID, "", wire.Errorf(wire.BadFrame, "hello comes once; use open, and auth for a fresh token"))
	default:
		counted = "unknown" // of a later version: ignored
	}
	c.g.metrics.frames.WithLabelValues(counted).Inc()
}

// allow checks that the client may read, or write, a session.
func (c *Conn) allow(session string, write bool) error {
	if err := wire.CheckSession(session); err != nil {
		return err
	}
	r, w := c.identity.may(session)
	if !r || (write && !w) {
		return wire.Errorf(wire.Forbidden, "%s may not do that with %s", c.identity.User, session)
	}
	return nil
}

func (c *Conn) open(id *int64, session, cur string, tail *int) {
	if err := c.allow(session, false); err != nil {
		c.fail(id, session, err)
		return
	}
	old := c.subs[session]
	if old != nil {
		old.close() // opened again: it starts anew
	} else if len(c.subs) >= wire.MaxOpen {
		c.fail(id, session, wire.Errorf(wire.TooLarge, "at most %d sessions are open on a connection: close some", wire.MaxOpen))
		return
	}
	s := newSub(c, id, session, tail)
	if cur != "" {
		pos, err := c.g.tokens.Load().parse(cur, c.identity.User, session)
		s.begin(pos, err == nil)
		if errors.Is(err, errWide) {
			c.g.metrics.resync.WithLabelValues("wide").Inc()
		}
	}
	if old != nil {
		s.after(old.floor)
	}
	s.before = old
	c.subs[session] = s
	c.g.hub.add(s)
	c.send(item{kind: itemOpen, sub: s})
}

func (c *Conn) closeSession(f *wire.ClientFrame) {
	c.leave(f.S)
	c.send(item{kind: itemFrame, frame: &wire.Ok{T: "ok", ID: *f.ID, S: f.S}})
}

// leave has a session be no more sent to the client, if it is.
func (c *Conn) leave(session string) {
	if s := c.subs[session]; s != nil {
		s.close()
		delete(c.subs, session)
		c.send(item{kind: itemClose, sub: s})
	}
}

// put takes a put, and decides whether its journey is watched.
func (c *Conn) put(f *wire.ClientFrame) error {
	span := c.g.traces.begin(c, f)
	err := c.submit(f, span)
	if err != nil && span != nil {
		telemetry.End(span, err)
	}
	return err
}

func (c *Conn) submit(f *wire.ClientFrame, span trace.Span) error {
	if err := c.allow(f.S, true); err != nil {
		return err
	}
	ops, err := f.Put(c.identity.User, c.device, c.identity.Service)
	if err != nil {
		return err
	}
	if f.Regions < 0 || f.Regions > maxRegionsAsk {
		return wire.Errorf(wire.BadFrame, "regions %d: 0 to %d", f.Regions, maxRegionsAsk)
	}
	var floor crdt.Floor
	if s := c.subs[f.S]; s != nil {
		floor = s.floor
	}
	if f.Cur != "" {
		pos, _ := c.g.tokens.Load().parse(f.Cur, c.identity.User, f.S) // a bad one says nothing
		floor.Seq, floor.Stamp = max(floor.Seq, pos.floor.Seq), max(floor.Stamp, pos.floor.Stamp)
	}
	id := *f.ID
	tag := c.g.hub.ticket(ticket{conn: c, id: id, regions: f.Regions, since: c.g.age(), watched: span != nil})
	if span != nil {
		mark(span, ops)
		c.g.hub.watched.add(tag, span)
	}
	session := f.S
	c.beginPut()
	err = c.g.cfg.Backend.Submit(&wire.Put{Session: session, Ops: ops, Floor: floor, Tag: tag, Fail: func(err error) {
		if t, ok := c.g.hub.redeem(tag); ok {
			t.conn.g.hub.watched.end(tag, err)
			t.conn.fail(&id, session, err)
			t.conn.endPut()
		}
	}})
	if err != nil {
		c.endPut()
		c.g.hub.redeem(tag)
		c.g.hub.watched.drop(tag)
	}
	return err
}

func (c *Conn) askPage(f *wire.ClientFrame) error {
	if err := c.allow(f.S, false); err != nil {
		return err
	}
	c.send(item{kind: itemPage, frame: f})
	return nil
}

func (c *Conn) sig(f *wire.ClientFrame) {
	if c.allow(f.S, true) != nil || len(f.V) > wire.MaxKey*8 || (f.K != "typing" && f.K != "presence") {
		c.g.metrics.dropped.WithLabelValues("sig").Inc()
		return
	}
	v := f.V
	if len(v) == 0 {
		v = []byte("null")
	}
	c.g.hub.signal(c, &wire.Sig{T: "sig", S: f.S, User: c.identity.User, Device: c.device, K: f.K, V: v})
}

func (c *Conn) reauth(f *wire.ClientFrame) {
	id, err := c.g.cfg.Auth.Authenticate(f.Token)
	if err == nil && id.User != c.identity.User {
		err = wire.Errorf(wire.Forbidden, "the fresh token is another user's: connect anew for that")
	}
	if err != nil {
		c.fail(f.ID, "", wire.Errorf(wire.Unauthorized, "%v", err))
		return
	}
	c.assume(id)
	c.keep(f.Token)
	c.send(item{kind: itemFrame, frame: &wire.Ok{T: "ok", ID: *f.ID}})
	for _, session := range slices.Sorted(maps.Keys(c.subs)) { // what the fresh token does not grant any more
		if err := c.allow(session, false); err != nil {
			c.leave(session)
			c.fail(nil, session, err)
		}
	}
}
