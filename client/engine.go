package client

import (
	"errors"
	"fmt"
	"time"
)

// Engine is a client without sockets, goroutines or a clock, for programs that have an event loop of their own. Its owner
// makes connections, carries messages and tells the time; Client is made of the same parts. It is not for several
// goroutines at once.
//
// The owner connects to Region and calls Begin; gives every message to Receive; sends what Take returns whenever it has
// called anything else, and when Due has come, after Tick; and calls Lost when the connection has ended, which says how long
// to wait before the next.
type Engine struct {
	core  *core
	route route
	dice  func() float64
	to    string // the region that the connection leads to
}

// EngineConfig is what an Engine needs. Its fields are those of Config.
type EngineConfig struct {
	Regions       []Region
	Device, Agent string
	MaxOutbox     int            // 0: 1024
	MaxAge        time.Duration  // 0: 29 days
	Dice          func() float64 // required: uniform in [0, 1)
}

// NewEngine makes an engine with what its outbox has kept.
func NewEngine(cfg EngineConfig, kept []Item) (*Engine, error) {
	if len(cfg.Regions) == 0 || cfg.Dice == nil {
		return nil, errors.New("client: Regions and Dice are required")
	}
	if cfg.MaxOutbox == 0 {
		cfg.MaxOutbox = defaultMaxOutbox
	}
	e := &Engine{core: newCore(cfg.Device, cfg.Agent, cfg.MaxOutbox), route: newRoute(cfg.Regions), dice: cfg.Dice}
	if cfg.MaxAge > 0 {
		e.core.maxAge = cfg.MaxAge
	}
	for _, it := range kept {
		p, err := newPending(it)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		e.core.restore(it.Session, p)
	}
	return e, nil
}

// Region is where to connect next.
func (e *Engine) Region() Region { return e.route.current() }

// Prefer makes a region the one to connect to next; false if it is not known.
func (e *Engine) Prefer(region string) bool { return e.route.prefer(region) }

// Begin starts a connection to where Region said, with a token.
func (e *Engine) Begin(token string, now time.Time) {
	e.to = e.route.current().Name
	e.core.begin(token, now)
}

// Lost takes the end of the connection, or of the try to make one, and returns how long to wait before the next.
func (e *Engine) Lost(now time.Time) (wait time.Duration) {
	lived := time.Duration(0)
	if e.core.link.up {
		lived = max(now.Sub(e.core.link.since), 1)
	}
	if !e.core.link.on {
		e.to = e.route.current().Name
	}
	e.core.lost()
	e.route.ended(e.to, lived)
	return e.route.backoff(e.dice())
}

// Receive takes a message. After an error the connection is of no more use.
func (e *Engine) Receive(message []byte, now time.Time) error {
	frames, err := decodeFrames(message)
	if err != nil {
		return err
	}
	for _, f := range frames {
		if err := e.core.receive(f, now); err != nil {
			return err
		}
	}
	if l := &e.core.link; l.news {
		e.route.learn(l.region, l.regions)
		l.news = false
	}
	return nil
}

// Tick does what is due. After an error the connection is of no more use.
func (e *Engine) Tick(now time.Time) error {
	e.core.stuck(now) // its owner has one connection, and leaves that when it is lost
	return e.core.tick(now)
}

// Due is when Tick has something to do at the latest, if nothing happens before.
func (e *Engine) Due(now time.Time) time.Time { return e.core.due(now) }

// Take returns the message to send now, nil if there is none.
func (e *Engine) Take(now time.Time) []byte {
	if out := e.core.take(now); len(out) > 0 {
		return encodeFrames(out)
	}
	return nil
}

// Open has a session opened, and kept open through reconnects.
func (e *Engine) Open(session string, now time.Time) error {
	if !ValidSession(session) {
		return fmt.Errorf("%w: %q", ErrSession, session)
	}
	e.core.open(session, now)
	return nil
}

// Close stops following a session, and drops what is held of it.
func (e *Engine) Close(session string) {
	if s := e.core.sessions[session]; s != nil {
		e.core.close(s)
	}
}

// Put takes an op into the outbox; its JSON is the protocol's. It is put, and put again, until it is safe or refused. What is
// returned is to be kept until then, for a program that may end.
func (e *Engine) Put(it Item, now time.Time) (Item, error) {
	s := e.core.session(it.Session)
	after := s.follows()
	it.Cur, it.Anew = after.cur, after.anew
	p, err := newPending(it)
	if err == nil {
		p.stand = after
		err = e.core.admit(s)
	}
	if err != nil {
		e.core.forget(s)
		return it, err
	}
	e.core.enqueue(s, p, now)
	return it, nil
}

// Older asks for up to limit entries before the first one shown; they appear in the State. Without a connection, and while some
// are on their way, it does nothing.
func (e *Engine) Older(session string, limit int) {
	if s := e.core.sessions[session]; s != nil {
		e.core.page(s, limit)
	}
}

// State returns a session as it is known now; false if nothing of it is held.
func (e *Engine) State(session string) (State, bool) {
	s := e.core.sessions[session]
	if s == nil {
		return State{}, false
	}
	return s.state(), true
}

// Gone returns the oids that have left the outbox since it was called last: they are safe, or refused.
func (e *Engine) Gone() (oids []string) {
	for _, g := range e.core.gone {
		oids = append(oids, g.oids...)
	}
	e.core.gone, e.core.logs = nil, nil
	return oids
}
