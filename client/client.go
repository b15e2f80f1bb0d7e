package client

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// maxSessions bounds the sessions that a client has open.
const maxSessions = 1024

// Client holds a user's sessions on one device. Its methods may be called from any goroutine, before, during and
// after Run.
type Client struct {
	cfg Config
	log *slog.Logger

	// kick wakes the writer: there may be something to send. wake ends the wait between connections.
	kick, wake, moves chan struct{}
	// asking holds one while the configuration is asked for a token.
	asking chan struct{}

	mu      sync.Mutex
	core    *core       // guarded by mu
	route   route       // guarded by mu; it always has a region
	goal    string      // the region to move to, empty if none; guarded by mu
	byes    int         // goodbyes under way; guarded by mu
	running bool        // guarded by mu
	cut     func(error) // ends the connection; guarded by mu, nil without one
	// welcomed is when the connection was, zero if it was not; guarded by mu.
	welcomed time.Time
	handles  map[string]*Session // guarded by mu

	leaving sync.WaitGroup // of goodbyes
}

// New checks the configuration, loads the outbox and connects to nothing.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	cfg.Device = cmp.Or(cfg.Device, "go-"+newOID(time.Now())[16:])
	cfg.Agent = cmp.Or(cfg.Agent, "roam-go")
	cfg.MaxOutbox = cmp.Or(cfg.MaxOutbox, defaultMaxOutbox)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 10*time.Second)
	if cfg.Outbox == nil {
		cfg.Outbox = &MemoryOutbox{}
	}
	if cfg.Dial == nil {
		cfg.Dial = dialWebSocket
	}
	if cfg.Dice == nil {
		cfg.Dice = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		cfg: cfg, log: cfg.Logger, kick: make(chan struct{}, 1), wake: make(chan struct{}, 1), moves: make(chan struct{}, 1), asking: make(chan struct{}, 1),
		core: newCore(cfg.Device, cfg.Agent, cfg.MaxOutbox), route: newRoute(cfg.Regions),
		handles: map[string]*Session{},
	}
	if cfg.MaxAge > 0 {
		c.core.maxAge = cfg.MaxAge
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Client) load() error {
	items, err := c.cfg.Outbox.Load()
	if err != nil {
		return fmt.Errorf("load the outbox: %w", err)
	}
	for _, it := range items {
		p, err := newPending(it)
		if err != nil {
			return fmt.Errorf("client: %w", err)
		}
		c.core.restore(it.Session, p)
	}
	return nil
}

// Session opens a session, owner/name, and keeps it open through reconnects until its Close. Every call with one id
// returns the same handle.
func (c *Client) Session(id string) (*Session, error) {
	if !ValidSession(id) {
		return nil, fmt.Errorf("%w: %q", ErrSession, id)
	}
	defer nudge(c.kick)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.handles[id]; h != nil {
		return h, nil
	}
	if len(c.handles) >= maxSessions {
		return nil, fmt.Errorf("%w: %d are open", ErrTooMany, maxSessions)
	}
	h := &Session{client: c, rec: c.core.open(id, time.Now())}
	c.handles[id] = h
	return h, nil
}

// Status is where a client is connected.
type Status struct {
	Region    string // the current one, or the one to be tried next
	Connected bool
	User      string // as the region knows this client; empty if not Connected
	Conn      string // the region's id of the connection
	Expired   int    // ops that ended with ErrExpired since the client was made
}

// Status returns how things are now.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := Status{Region: c.route.current().Name, Connected: c.core.link.up, Expired: c.core.expired}
	if st.Connected {
		st.User, st.Conn = c.core.link.user, c.core.link.conn
	}
	return st
}

// Regions returns the list that is in use, as the last region told it.
func (c *Client) Regions() []Region {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.route.regions)
}

// Move goes on in another region: at once if there is no connection, or else as soon as the new one is made. If it
// cannot be made the client stays where it is. Of several calls the last one counts, also while a move is under way.
func (c *Client) Move(region string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.route.regions, func(g Region) bool { return g.Name == region })
	if i < 0 {
		return fmt.Errorf("%w: %q", ErrUnknownRegion, region)
	}
	c.goal = region // until a connection leads there, or cannot be made
	switch {
	case c.core.link.up:
		nudge(c.moves)
	case i != c.route.at:
		c.hangUp()
		c.route.prefer(region)
	}
	if !c.core.link.up {
		nudge(c.wake)
	}
	return nil
}

// Cut drops the connection, as a network does: when it returns nothing of it is used any more, and the client comes
// back by itself. It is for tests, and for who knows that the network has changed.
func (c *Client) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hangUp()
}

// hangUp ends the connection, if there is one or it is being made. The caller holds mu.
func (c *Client) hangUp() {
	if c.cut != nil {
		c.cut(errCut)
		c.cut = nil
		c.core.lost()
	}
}

// nudge signals without waiting: one signal that was not taken yet is enough.
func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Run connects, and reconnects, until ctx ends (nil) or a region says that coming back is of no use: a token that is
// not accepted, a protocol that it does not speak (close codes from 4500). When it returns everything it
// started has ended. It runs once.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	ran := c.running
	c.running = true
	c.mu.Unlock()
	if ran {
		return ErrRunning
	}
	defer c.leaving.Wait()
	var ready *dialled
	for ctx.Err() == nil {
		var err error
		if ready, err = c.turn(ctx, ready); err != nil {
			return fmt.Errorf("client: %w", err)
		}
	}
	if ready != nil {
		_ = ready.conn.Close(0, "")
	}
	return nil
}

// turn lives through one connection, and the wait for the next. Its error is fatal.
func (c *Client) turn(ctx context.Context, ready *dialled) (*dialled, error) {
	from := c.Status().Region
	if ready != nil {
		from = ready.region.Name
	}
	next, err := c.once(ctx, ready)
	switch {
	case fatal(err) && ctx.Err() == nil:
		if next != nil {
			_ = next.conn.Close(0, "")
		}
		return nil, err
	case next == nil && ctx.Err() == nil:
		c.rest(ctx, c.ended(from, err))
	}
	return next, nil
}

// ended notes how a connection ended and returns how long to wait before the next.
func (c *Client) ended(from string, err error) time.Duration {
	c.mu.Lock()
	lived := time.Duration(0)
	if !c.welcomed.IsZero() {
		lived = max(time.Since(c.welcomed), 1)
	}
	c.route.ended(from, lived)
	wait := c.route.backoff(c.cfg.Dice())
	c.mu.Unlock()
	c.log.Info("connection ended", "region", from, "reason", err, "again_in", wait)
	return wait
}

// rest waits, unless a move wakes it.
func (c *Client) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-c.wake:
	case <-t.C:
	}
}
