package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// helloOpens bounds the sessions resumed by the hello itself; the others follow one by one.
	helloOpens = 32
	// welcomeTimeout is how long a region may take to answer hello.
	welcomeTimeout = 15 * time.Second
	// silence is how long a connection may bring nothing: regions ping every 25 s.
	silence = 60 * time.Second
	// maxUnsent bounds frames that wait for the rate; sessions that have more to send wait for their turn.
	maxUnsent = 256
)

// core decides what to send and what frames mean. It is a state machine of values: its owner passes in the time and
// everything received, and takes out what is to be sent.
type core struct {
	device, agent string
	maxOutbox     int
	maxAge        time.Duration // of an op that is put again
	expired       int           // ops that were older

	sessions map[string]*session
	order    []*session    // by first use
	held     int           // ops in all outboxes, and those being added
	patience time.Duration // see stuckAfter
	link     link

	gone []goneOps // what the outbox may forget
	logs []note
}

// link is one connection; the zero value is none.
type link struct {
	on      bool // hello was sent
	up      bool // welcome came
	region  string
	user    string
	conn    string
	exp     int64
	max     limits
	lastID  int64
	started time.Time
	since   time.Time // the welcome
	heard   time.Time
	out     []any
	pong    bool
	asked   map[int64]*session // requests that a session waits for
	news    bool               // the welcome's regions and exp were not taken yet
	regions []Region
	why     *Refusal // what the region said before it would close
	move    *frame   // until taken
	rate    bucket
	stuck   bool      // the node hangs: another of its region is to be tried
	tried   time.Time // when that came to nothing last
}

// goneOps are ops of a session that left the outbox.
type goneOps struct {
	session string
	oids    []string
}

// note is something for the log.
type note struct {
	msg  string
	args []any
}

func newCore(device, agent string, maxOutbox int) *core {
	return &core{device: device, agent: agent, maxOutbox: maxOutbox, maxAge: defaultMaxAge, patience: stuckAfter, sessions: map[string]*session{}}
}

// session returns the record of a session, made if need be.
func (c *core) session(id string) *session {
	s := c.sessions[id]
	if s == nil {
		s = newSession(id)
		c.sessions[id] = s
		c.order = append(c.order, s)
	}
	return s
}

// forget drops the record of a session that nobody has open and nothing is put in.
func (c *core) forget(s *session) {
	if s.open || len(s.queue.ops) > 0 || s.adding > 0 {
		return
	}
	delete(c.sessions, s.id)
	c.order = slices.DeleteFunc(c.order, func(o *session) bool { return o == s })
}

// begin starts a connection with its hello.
func (c *core) begin(token string, now time.Time) {
	c.link = link{on: true, started: now, heard: now, asked: map[int64]*session{}}
	hello := helloFrame{T: "hello", ID: c.nextID(nil), Token: token, Device: c.device, Agent: c.agent}
	for _, s := range c.order {
		if s.open && len(hello.Open) < helloOpens {
			hello.Open = append(hello.Open, s.ask(hello.ID, now))
			s.greeted = true
		}
	}
	c.link.out = append(c.link.out, hello)
}

func (c *core) nextID(s *session) int64 {
	c.link.lastID++
	if s != nil {
		c.link.asked[c.link.lastID] = s
	}
	return c.link.lastID
}

// lost takes the end of the connection.
func (c *core) lost() {
	c.link = link{}
	for _, s := range c.order {
		s.lost()
	}
}

// receive takes a frame. An error means that the connection is of no more use.
func (c *core) receive(f *frame, now time.Time) error {
	c.link.heard, c.link.stuck = now, false
	switch f.T {
	case "welcome":
		return c.welcome(f, now)
	case "ping":
		c.link.pong = true
		return nil
	case "move":
		c.link.move = f
		return nil
	case "err":
		c.refused(f, now)
		return nil
	}
	delete(c.link.asked, f.ID)
	if f.T == "ok" {
		c.patience = stuckAfter
	}
	if s := c.sessions[f.S]; s != nil {
		c.log(s.receive(f, now, c.link.user, c.device))
		c.settle(s)
		c.pump(s, now)
	}
	return nil
}

func (c *core) welcome(f *frame, now time.Time) error {
	c.link.up, c.link.user, c.link.region, c.link.conn = true, f.User, f.Region, f.Conn
	c.link.since = now
	c.link.news, c.link.exp, c.link.max, c.link.rate = true, f.Exp, f.Max, newBucket(f.Max.Rate, now)
	var regions []struct {
		Name, URL, State string
		URLs             []string
	}
	if err := json.Unmarshal(f.Regions, &regions); len(f.Regions) > 0 && err != nil {
		return fmt.Errorf("welcome: regions: %w", err)
	}
	for _, r := range regions {
		c.link.regions = append(c.link.regions, Region{Name: r.Name, URL: r.URL, State: r.State, URLs: r.URLs[:min(len(r.URLs), maxRegions)]})
	}
	for _, s := range c.order {
		s.region = f.Region
	}
	c.pumpAll(now)
	return nil
}

// refused takes an err: for a request of a session, or for the connection, which the region then closes.
func (c *core) refused(f *frame, now time.Time) {
	why := &Refusal{Code: f.Code, Msg: f.Msg}
	s := c.link.asked[f.ID]
	delete(c.link.asked, f.ID)
	if s == nil {
		s = c.sessions[f.S]
	}
	if s == nil {
		c.link.why = why
		c.log([]note{{"the region refused a frame", []any{"code", f.Code, "reason", f.Msg}}})
		return
	}
	s.refused(f, why, now)
	c.settle(s)
	c.pump(s, now)
}

// settle takes the ops that need no more keeping out of the outbox.
func (c *core) settle(s *session) {
	if len(s.gone) == 0 {
		return
	}
	g := goneOps{session: s.id}
	for _, p := range s.gone {
		g.oids = append(g.oids, p.op.OID)
		if p.err != nil {
			c.log([]note{{"an op will not be stored", []any{"session", s.id, "oid", p.op.OID, "reason", p.err}}})
		}
	}
	c.held -= len(s.gone)
	s.gone = nil
	c.gone = append(c.gone, g)
	c.forget(s)
}

func (c *core) log(notes []note) { c.logs = append(c.logs, notes...) }

// admit makes room for one more op; the caller then enqueues it or calls release.
func (c *core) admit(s *session) error {
	if c.held >= c.maxOutbox {
		return fmt.Errorf("%w: %d ops wait to be safe", ErrOutboxFull, c.held)
	}
	c.held++
	s.adding++
	return nil
}

func (c *core) release(s *session) {
	c.held--
	s.adding--
	c.forget(s)
}

func (c *core) enqueue(s *session, p *pending, now time.Time) {
	s.adding--
	s.put(p)
	s.touch()
	c.pump(s, now)
}

// restore puts an op that was kept on disk back into the outbox.
func (c *core) restore(sessionID string, p *pending) {
	c.held++
	p.moved = true
	s := c.session(sessionID)
	s.queue.ops = append(s.queue.ops, p)
}

// pump sends what a session has to send.
func (c *core) pump(s *session, now time.Time) {
	if !c.link.up || len(c.link.out) >= maxUnsent {
		return
	}
	if s.wantOpen(now) {
		id := c.nextID(s)
		c.link.out = append(c.link.out, openFrame{T: "open", ID: id, openItem: s.ask(id, now)})
	}
	if old := s.queue.expired(now, c.maxAge); len(old) > 0 {
		c.expired += s.fail(old, ErrExpired)
		c.settle(s)
	}
	if batch := s.queue.next(now, c.link.max); batch != nil {
		put := putFrame{T: "put", ID: c.nextID(s), S: s.id, Cur: after(batch, s.live)}
		for _, p := range batch {
			put.Ops = append(put.Ops, p.raw)
		}
		s.queue.fly(put.ID, batch, now)
		s.touch()
		c.link.out = append(c.link.out, put)
	}
}

// after is the token that ops are put after, if the region may not know that otherwise.
func after(batch []*pending, live bool) (cur string) {
	for _, p := range batch {
		if p.cur != "" && !(p.known && live) {
			cur = p.cur
		}
	}
	return cur
}

func (c *core) pumpAll(now time.Time) {
	for _, s := range slices.Clone(c.order) {
		c.pump(s, now)
	}
}

// tick does what is due. An error means that the connection is of no more use.
func (c *core) tick(now time.Time) error {
	if !c.link.on {
		return nil
	}
	if !c.link.up {
		if now.Sub(c.link.started) >= welcomeTimeout {
			return errNoHello
		}
		return nil
	}
	if now.Sub(c.link.heard) >= silence {
		return errSilent
	}
	for _, s := range c.order {
		if s.queue.flight != 0 && now.Sub(s.queue.since) >= putTimeout {
			return errNoReply
		}
	}
	c.pumpAll(now)
	return nil
}

const (
	// stuckAfter is how long a hello, an open or a put may go unanswered, and the connection silent, before another node of the region is tried.
	stuckAfter = time.Second
	// stuckMax bounds that after tries that did not help: then the region is slow, and not a node.
	stuckMax = 16 * time.Second
)

// stuck reports, once, that the node seems to hang. The next time takes longer, until a put is answered.
func (c *core) stuck(now time.Time) bool {
	if !c.link.on || c.link.stuck || now.Before(c.stuckAt()) {
		return false
	}
	c.link.stuck = true
	c.patience = min(2*c.patience, stuckMax)
	return true
}

// stuckAt is when the node will seem to hang if nothing comes.
func (c *core) stuckAt() time.Time {
	first := c.link.heard.Add(silence)
	owed := func(since time.Time) {
		if t := since.Add(c.patience); t.Before(first) {
			first = t
		}
	}
	if !c.link.up {
		owed(c.link.started)
	}
	for _, s := range c.order {
		if s.queue.flight != 0 {
			owed(s.queue.since)
		}
		if s.asking != 0 {
			owed(s.askedAt)
		}
	}
	for _, quiet := range []time.Time{c.link.heard, c.link.tried} {
		if t := quiet.Add(c.patience); t.After(first) {
			first = t
		}
	}
	return first
}

// stay takes it that no other node was reached.
func (c *core) stay(now time.Time) {
	if c.link.stuck {
		c.link.stuck, c.link.tried = false, now
	}
}

// due is when tick has something to do at the latest, if nothing happens before.
func (c *core) due(now time.Time) time.Time {
	due := c.link.heard.Add(silence)
	sooner := func(t time.Time) {
		if t.Before(due) {
			due = t
		}
	}
	if !c.link.stuck {
		sooner(c.stuckAt())
	}
	if !c.link.up {
		sooner(c.link.started.Add(welcomeTimeout))
		return due
	}
	if len(c.link.out) > 0 {
		sooner(c.link.rate.at(now))
	}
	if len(c.link.out) >= maxUnsent {
		return due // nothing else can be sent before
	}
	for _, s := range c.order {
		s.due(sooner)
	}
	return due
}

// owes reports whether there is something to send.
func (c *core) owes() bool { return c.link.pong || len(c.link.out) > 0 }

// take returns the frames that may be sent now.
func (c *core) take(now time.Time) []any {
	var out []any
	if c.link.pong {
		c.link.pong = false
		out = append(out, pongFrame{T: "pong"})
	}
	n := len(c.link.out)
	if c.link.up {
		n = c.link.rate.spend(now, n)
	}
	out = append(out, c.link.out[:n]...)
	c.link.out = slices.Delete(c.link.out, 0, n)
	return out
}

// open has a session opened, and kept open.
func (c *core) open(id string, now time.Time) *session {
	s := c.session(id)
	s.open, s.want, s.region = true, true, c.link.region
	c.pump(s, now)
	return s
}

// close drops a session; the ops in its outbox are put all the same.
func (c *core) close(s *session) {
	if c.link.up {
		c.link.out = append(c.link.out, closeFrame{T: "close", ID: c.nextID(nil), S: s.id})
	}
	s.leave()
	c.settle(s)
	c.forget(s)
}

// page asks for older entries, unless some are on their way.
func (c *core) page(s *session, limit int) {
	if c.link.up && s.live && s.paging == 0 && s.replica.more && len(c.link.out) < maxUnsent {
		s.paging = c.nextID(s)
		c.link.out = append(c.link.out, pageFrame{T: "page", ID: s.paging, S: s.id, Before: s.replica.floor, Limit: limit})
	}
}

// auth sends a fresh token.
func (c *core) auth(token string) {
	if c.link.up {
		c.link.out = append(c.link.out, authFrame{T: "auth", ID: c.nextID(nil), Token: token})
	}
}
