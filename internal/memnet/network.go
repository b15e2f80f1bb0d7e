package memnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrCut is why a connection over a broken link fails.
var ErrCut = errors.New("the link between the regions is cut")

// Config says what a network is like.
type Config struct {
	// Delay is the one-way delay between any two regions, until SetDelay. Zero: none.
	Delay time.Duration
	// Dial opens connections to addresses that Listen does not serve; nil means TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Network joins regions. All methods may be called at any time from any goroutine.
type Network struct {
	cfg     Config
	dropped atomic.Uint64

	mu        sync.Mutex
	closed    bool
	places    map[string]string // address → region
	listeners map[string]*listener
	members   map[string]*memberTransport
	links     map[pair]*link
	conns     map[*conn]struct{}
	ended     sync.WaitGroup // one for each of conns
}

// New makes a network without regions.
func New(cfg Config) (*Network, error) {
	if cfg.Delay < 0 {
		return nil, fmt.Errorf("memnet: delay %s is below 0", cfg.Delay)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	return &Network{cfg: cfg, places: map[string]string{}, listeners: map[string]*listener{}, members: map[string]*memberTransport{},
		links: map[pair]*link{}, conns: map[*conn]struct{}{}}, nil
}

// Place says which region addresses are in. An address that is in none is reached without delay.
func (n *Network) Place(region string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.places[a] = region
	}
}

// SetDelay sets the delay of what goes from one region to another, from now on.
func (n *Network) SetDelay(from, to string, d time.Duration) {
	n.link(from, to).set(func(l *link) { l.shape.Delay = d })
}

// Cut cuts what goes from one region to another; Open heals it. Break ends the connections between the two at once,
// whoever dialed them.
func (n *Network) Cut(from, to string, c Cut) {
	n.link(from, to).set(func(l *link) { l.cut = c })
	if c != Break {
		return
	}
	for _, c := range n.between(from, to) {
		c.abort(ErrCut)
	}
}

// CutBoth is Cut in both directions.
func (n *Network) CutBoth(a, b string, c Cut) {
	n.Cut(a, b, c)
	n.Cut(b, a, c)
}

// Dropped returns how many packets were lost: cut off, or too many under way.
func (n *Network) Dropped() uint64 { return n.dropped.Load() }

// Close ends all connections and listeners at once and waits for what they started.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	conns, listeners, links := slices.Collect(maps.Keys(n.conns)), n.listeners, slices.Collect(maps.Values(n.links))
	n.listeners = map[string]*listener{}
	n.mu.Unlock()
	for _, l := range links { // who dials need not wait any longer
		l.set(func(l *link) { l.cut = Break })
	}
	for _, l := range listeners {
		l.shut()
	}
	for _, c := range conns {
		c.abort(net.ErrClosed)
	}
	n.ended.Wait()
}

// DialFunc returns a dialer for who is in a region.
func (n *Network) DialFunc(from string) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) { return n.dial(ctx, from, addr, n.open) }
}

// open opens the connection underneath.
func (n *Network) open(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l != nil {
		return l.dial(ctx)
	}
	return n.cfg.Dial(ctx, addr)
}

// dial opens a connection the way open does, and puts the network between.
func (n *Network) dial(ctx context.Context, from, addr string, open func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	n.mu.Lock()
	to, known := n.places[addr]
	n.mu.Unlock()
	if !known || to == from {
		return open(ctx, addr)
	}
	for _, l := range []*link{n.link(from, to), n.link(to, from)} { // the handshake goes there and back
		if err := l.cross(ctx); err != nil {
			return nil, &net.OpError{Op: "dial", Net: "memnet", Err: fmt.Errorf("%s to %s at %s: %w", from, to, addr, err)}
		}
	}
	inner, err := open(ctx, addr)
	if err != nil {
		return nil, err
	}
	return n.wrap(inner, pair{from, to})
}

// cross waits for as long as something small takes over the link.
func (l *link) cross(ctx context.Context) error {
	due := time.Now()
	if delay, _, _ := l.state(); delay > 0 {
		due = due.Add(delay)
	}
	for {
		_, cut, moved := l.state()
		wait := time.Until(due)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case cut == Break:
			return ErrCut
		case cut == Open && wait <= 0:
			return nil
		}
		if !await(wait, nil, moved, ctx.Done()) {
			return ctx.Err()
		}
	}
}

// wrap puts the network between this side and the connection underneath.
func (n *Network) wrap(inner net.Conn, p pair) (net.Conn, error) {
	out, in := n.link(p.from, p.to), n.link(p.to, p.from)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || out.broken() || in.broken() {
		inner.Close()
		return nil, &net.OpError{Op: "dial", Net: "memnet", Err: ErrCut}
	}
	n.ended.Add(1)
	c := newConn(inner, p, out, in, n.forget)
	n.conns[c] = struct{}{}
	return c, nil
}

func (l *link) broken() bool {
	_, cut, _ := l.state()
	return cut == Break
}

func (n *Network) forget(c *conn) {
	n.mu.Lock()
	delete(n.conns, c)
	n.mu.Unlock()
	n.ended.Done()
}

func (n *Network) link(from, to string) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := pair{from, to}
	l := n.links[p]
	if l == nil {
		l = newLink(n.cfg.Delay)
		if n.closed {
			l.cut = Break
		}
		n.links[p] = l
	}
	return l
}

// between returns the connections of two regions, whoever dialed.
func (n *Network) between(a, b string) []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []*conn
	for c := range n.conns {
		if c.forth == (pair{a, b}) || c.forth == (pair{b, a}) {
			found = append(found, c)
		}
	}
	return found
}
