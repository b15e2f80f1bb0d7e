package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// writeTimeout bounds one write: a peer that takes nothing for so long is gone.
	writeTimeout = 10 * time.Second
	// readLimit bounds one message of a region, in bytes.
	readLimit = 32 << 20
	// minRenew is the least time between two fresh tokens on one connection.
	minRenew = 5 * time.Second
)

// webSocket makes a Conn of a websocket.Conn.
type webSocket struct{ *websocket.Conn }

func dialWebSocket(ctx context.Context, url string) (Conn, error) {
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		return nil, err
	}
	if c.Subprotocol() != subprotocol {
		_ = c.CloseNow()
		return nil, fmt.Errorf("%s does not speak %s", url, subprotocol)
	}
	c.SetReadLimit(readLimit)
	return webSocket{c}, nil
}

func (w webSocket) Read(ctx context.Context) ([]byte, error) {
	_, b, err := w.Conn.Read(ctx)
	return b, err
}

func (w webSocket) Write(ctx context.Context, message []byte) error {
	return w.Conn.Write(ctx, websocket.MessageText, message)
}

func (w webSocket) Close(code int, reason string) error {
	if code == 0 {
		return w.CloseNow()
	}
	return w.Conn.Close(websocket.StatusCode(code), reason)
}

// fatal reports whether a connection's end means that coming back is of no use: the region closed with 4500–4999.
func fatal(err error) bool {
	code := websocket.CloseStatus(err)
	return code >= 4500 && code <= 4999
}

// attempt is one connection, from before it is made until it has ended.
type attempt struct {
	*Client
	conn    Conn
	next    *dialled   // written by mover before it ends
	exp     chan int64 // the token's end as the welcome tells it; holds one
	planned time.Time  // when write looks at the core again at the latest; guarded by mu
}

// once lives through one connection: the one that is ready, or else a new one to the current region. It returns the
// connection to go on with after a move, if any, and why this one ended.
func (c *Client) once(ctx context.Context, ready *dialled) (*dialled, error) {
	life, end := context.WithCancelCause(ctx)
	defer end(nil)
	c.mu.Lock()
	c.cut, c.welcomed = end, time.Time{}
	ways := c.route.nodes()
	c.mu.Unlock()
	if ready == nil {
		var err error
		if ready, err = c.reach(life, ways); err != nil {
			return nil, err
		}
	}
	a := &attempt{Client: c, conn: ready.conn, exp: make(chan int64, 1)}
	if ready.token == "" {
		var err error
		if ready.token, err = c.token(life); err != nil {
			_ = a.conn.Close(0, "")
			return nil, err
		}
	}
	a.begin(life, ready.region, ready.token)
	err := a.live(ctx, life, end)
	c.settle()
	return a.next, err
}

func (a *attempt) begin(life context.Context, to Region, token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if life.Err() == nil {
		a.route.landed(to)
		if a.goal == to.Name {
			a.goal = ""
		}
		a.core.begin(token, time.Now())
		nudge(a.kick)
	}
}

// live runs what a connection needs, and returns why its life ended when all of that has ended too.
func (a *attempt) live(ctx, life context.Context, end func(error)) error {
	var wg sync.WaitGroup
	for _, part := range []func(context.Context) error{a.read, a.write, a.mover, a.renew} {
		wg.Go(func() { end(part(life)) })
	}
	<-life.Done()
	why := context.Cause(life)
	a.mu.Lock()
	hangs := a.core.link.stuck
	a.hangUp()
	a.mu.Unlock()
	close := func(code int) { _ = a.conn.Close(code, ""); wg.Wait() }
	switch {
	case hangs: // it does not answer a goodbye, which would be waited for
		close(0)
	case ctx.Err() != nil:
		close(int(websocket.StatusNormalClosure))
	case !errors.Is(why, errMoved) || !a.aside(func() { close(int(websocket.StatusNormalClosure)) }):
		close(0)
	}
	return why
}

// maxByes bounds the goodbyes that are waited for at once. Beyond, connections are dropped without.
const maxByes = 4

// aside says goodbye while the client goes on elsewhere: what answers may be far away, or gone. false: there are too many already.
func (c *Client) aside(goodbye func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byes >= maxByes {
		return false
	}
	c.byes++
	c.leaving.Go(func() {
		goodbye()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.byes--
	})
	return true
}

// read gives frames to the core until the connection ends.
func (a *attempt) read(life context.Context) error {
	ctx := context.WithoutCancel(life) // ended by Close, which says goodbye first
	for {
		message, err := a.conn.Read(ctx)
		if err != nil {
			return a.closed(err)
		}
		frames, err := decodeFrames(message)
		if err != nil {
			return err
		}
		if err := a.receive(life, frames); err != nil {
			return err
		}
		a.settle()
	}
}

// closed adds to a connection's end what the region said before it.
func (a *attempt) closed(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if why := a.core.link.why; why != nil {
		return fmt.Errorf("%w: %w", why, err)
	}
	return err
}

// receive takes a message: all of it, or, if the connection is left, none. Only in the first case the next one is asked for; checkers on
// connections rely on that (internal/check).
func (a *attempt) receive(life context.Context, frames []*frame) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if life.Err() != nil {
		return context.Cause(life)
	}
	for _, f := range frames {
		if err := a.core.receive(f, time.Now()); err != nil {
			return err
		}
	}
	a.learn()
	if now := time.Now(); a.core.owes() || a.core.due(now).Before(a.planned) { // most of what comes asks for nothing
		nudge(a.kick)
	}
	return nil
}

// learn takes what the region told of itself and the others. The caller holds mu.
func (a *attempt) learn() {
	l := &a.core.link
	if l.news {
		a.welcomed = time.Now()
		a.route.learn(l.region, l.regions)
		l.news = false
		if a.goal != "" { // it was called for while another region was gone to
			nudge(a.moves)
		}
		select {
		case a.exp <- l.exp:
		default:
		}
	}
	if l.move != nil {
		nudge(a.moves)
	}
}

// write sends what the core wants sent, and tells it the time.
func (a *attempt) write(life context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-life.Done():
			return nil
		case <-a.kick:
		case <-timer.C:
		}
		out, wait, err := a.step(life)
		if err != nil {
			return err
		}
		if len(out) > 0 {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(life), writeTimeout)
			err := a.conn.Write(ctx, encodeFrames(out))
			cancel()
			if err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		a.settle()
		timer.Reset(wait)
	}
}

// step is what is to be sent now, and how long nothing will be.
func (a *attempt) step(life context.Context) (out []any, wait time.Duration, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if life.Err() != nil {
		return nil, 0, nil
	}
	now := time.Now()
	if err := a.core.tick(now); err != nil {
		return nil, 0, err
	}
	if a.core.stuck(now) {
		nudge(a.moves)
	}
	out = a.core.take(now)
	a.planned = a.core.due(now)
	return out, max(a.planned.Sub(now), 0), nil
}

// settle forgets what is safe, and logs what there is to log.
func (c *Client) settle() {
	c.mu.Lock()
	gone, logs := c.core.gone, c.core.logs
	c.core.gone, c.core.logs = nil, nil
	c.mu.Unlock()
	for _, g := range gone {
		if err := c.cfg.Outbox.Remove(g.session, g.oids); err != nil {
			c.log.Warn("outbox keeps ops that are safe", "session", g.session, "reason", err)
		}
	}
	for _, n := range logs {
		c.log.Warn(n.msg, n.args...)
	}
}

// mover makes a connection to where the region or the user wants this client, and then ends this one.
func (a *attempt) mover(life context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var plan []Region
	for {
		var now []Region
		select {
		case <-life.Done():
			return nil
		case <-a.moves:
			if to, after := a.targets(); after > 0 {
				plan = to
				timer.Reset(after)
			} else {
				now = to
			}
		case <-timer.C:
			now, plan = plan, nil
		}
		if len(now) == 0 {
			continue
		}
		if a.next = a.first(life, now); a.next != nil {
			return errMoved
		}
		a.stays()
	}
}

// first connects to the first region of a plan that can be reached.
func (a *attempt) first(life context.Context, plan []Region) *dialled {
	next, err := a.prepare(life, plan)
	if err != nil {
		a.log.Warn("move", "to", plan[0].Name, "reason", err)
	}
	return next
}

// stays takes it that a move came to nothing: a node that hangs may be left later, and the region may have named another one to go to.
func (a *attempt) stays() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.core.stay(time.Now())
	if a.core.link.move != nil {
		nudge(a.moves)
	}
	nudge(a.kick)
}

// targets takes where to move to, in order of preference, and when.
func (a *attempt) targets() ([]Region, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	to := a.goal
	if a.goal = ""; to != "" && to != a.route.current().Name {
		return a.route.to(to), 0
	}
	f := a.core.link.move
	if f == nil && a.core.link.stuck {
		return a.route.nodes()[1:], 0
	}
	if f == nil {
		return nil, 0
	}
	a.core.link.move = nil
	var all []Region
	for _, to := range f.To[:min(len(f.To), maxRegions)] {
		if r := a.route.target(to); r.URL != "" {
			all = append(all, r)
		}
	}
	return all, time.Duration(min(max(f.After, 0), maxMoveMS)) * time.Millisecond
}

// maxMoveMS bounds how far ahead a region may plan a move: an hour.
const maxMoveMS = 3_600_000

// pause waits, and reports whether life goes on.
func pause(life context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-life.Done():
		return false
	case <-t.C:
		return true
	}
}

// renew sends a fresh token well before the one in use ends, if it ends.
func (a *attempt) renew(life context.Context) error {
	var exp int64
	select {
	case <-life.Done():
		return nil
	case exp = <-a.exp:
	}
	if exp == 0 {
		<-life.Done()
		return nil
	}
	every := max(time.Until(time.Unix(exp, 0))*4/5, minRenew)
	for wait := every; pause(life, wait); {
		token, err := a.token(life)
		if err != nil {
			a.log.Warn("a fresh token", "reason", err)
			wait = minRenew // while the one in use lasts
			continue
		}
		wait = every
		a.mu.Lock()
		if life.Err() == nil {
			a.core.auth(token)
		}
		a.mu.Unlock()
		nudge(a.kick)
	}
	return nil
}
