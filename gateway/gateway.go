package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Subprotocol is what clients offer.
const Subprotocol = "roam.v1.json"

// Backend is the region that the gateway serves.
type Backend interface {
	Submit(*wire.Put) error
	View(session string, read func(crdt.Store)) error
	Cursors(partition uint8) crdt.Vector
	Watch(func([]wire.Event)) (stop func())
}

// Peers is what is known of other regions.
type Peers interface {
	Regions() []wire.RegionInfo
	Reach(crdt.Dot) wire.Reach
	WatchReach(func()) (stop func())
	// Hasten is told that a client waits for what other regions have of a partition.
	Hasten(partition uint8)
}

// Config says what a gateway serves.
type Config struct {
	Region, Node string
	Backend      Backend
	// Finals is what is closed in a partition; nil: nothing ever is.
	Finals func(partition uint8) crdt.Finals
	// Held is how far any other region is known to hold each origin's feed of a partition; all: every region that counts was heard just now, so
	// that there is no more. Nil: nobody is heard.
	Held  func(partition uint8) (most crdt.Vector, all bool)
	Peers Peers
	// Heirs is where the n-th client of a node that ends goes, best first; nil, or none: it is only told that the node ends.
	Heirs   func(n int) []wire.MoveTo
	Auth    Auth
	Keys    [][]byte // sign resume tokens: the first is used, all are accepted
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	Clock   Clock // nil: the machine's
	// Tracer begins the spans of messages that are watched. Nil: none are.
	Tracer trace.Tracer
	// TraceSample is the share of puts that are watched, 0 to 1; those that clients ask for come on top. 0: only those.
	TraceSample float64
	// BehindAfter is how long an open waits for what its client has seen elsewhere. 0: 400 ms.
	BehindAfter time.Duration
	// MaxConns bounds the connections; more are refused with 503. 0: 15,000.
	MaxConns int
}

// Clock is time, as a gateway needs it.
type Clock interface {
	Now() time.Time
	// AfterFunc calls fn later, unless stop is called before.
	AfterFunc(d time.Duration, fn func()) (stop func() bool)
}

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) AfterFunc(d time.Duration, fn func()) (stop func() bool) {
	return time.AfterFunc(d, fn).Stop
}

// Times of the protocol.
const (
	helloTimeout  = 10 * time.Second
	pingEvery     = 25 * time.Second
	silentAfter   = 60 * time.Second
	writeTimeout  = 10 * time.Second
	regionsWait   = 2 * time.Second // for a put's regions: k
	closeTimeout  = 2 * time.Second
	maxRegionsAsk = 16
	// nowhereAfter is how long a region is behind its client before it looks whether what it lacks is anywhere. What the client has
	// seen was committed before it came; so where it is, it has been heard of by then.
	nowhereAfter = 10 * time.Second
	// partTimeout is for all connections together, from when they are told that the node ends until they are cut: a client that takes its bytes one by one keeps
	// nobody waiting for longer.
	partTimeout = 3 * time.Second
)

func (c *Config) check() error {
	if c.Backend == nil || c.Peers == nil || c.Auth == nil || len(c.Keys) == 0 {
		return errors.New("gateway: Backend, Peers, Auth and Keys are needed")
	}
	if c.Finals == nil {
		c.Finals = func(uint8) crdt.Finals { return nil }
	}
	if c.Held == nil {
		c.Held = func(uint8) (crdt.Vector, bool) { return nil, false }
	}
	if c.Heirs == nil {
		c.Heirs = func(int) []wire.MoveTo { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Clock == nil {
		c.Clock = machineClock{}
	}
	if c.BehindAfter == 0 {
		c.BehindAfter = 400 * time.Millisecond
	}
	if c.MaxConns == 0 {
		c.MaxConns = 15_000
	}
	return nil
}

// Gateway serves connections. See New.
type Gateway struct {
	peerpb.UnimplementedDoorServer
	cfg     Config
	hub     *hub
	tokens  atomic.Pointer[tokens]
	metrics *metrics
	traces  *tracing
	started time.Time
	reached chan struct{} // some peer has acknowledged more
	leaving chan struct{} // closed when no more connections are taken
	left    chan struct{} // a connection has ended
	cut     cutter

	mu      sync.Mutex
	closing bool      // no client connects here any more
	closed  bool      // nor at an edge, to be served here
	conns   []*Conn   // by seq
	due     []dueConn // whose clients are to be told what is safe
	lastSeq uint64
	running sync.WaitGroup
}

// New prepares a gateway and starts nothing.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m := newMetrics(cfg.Metrics)
	traces := newTracing(&cfg, m)
	g := &Gateway{
		cfg: cfg, hub: newHub(cfg.Backend.Cursors, cfg.Finals, traces, m.open), metrics: m,
		traces: traces, started: cfg.Clock.Now(), reached: make(chan struct{}, 1), leaving: make(chan struct{}),
		left: make(chan struct{}, 1), cut: newCutter(),
	}
	g.SetKeys(cfg.Keys)
	return g, nil
}

// SetKeys goes on with other keys of resume tokens: the first signs, all are accepted.
func (g *Gateway) SetKeys(keys [][]byte) { g.tokens.Store(&tokens{keys}) }

// Run brings events to the connections until ctx ends; then it sends them to other nodes, closes those that stay, and waits for them.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.Watch()()
	defer g.cfg.Peers.WatchReach(func() {
		select {
		case g.reached <- struct{}{}:
		default:
		}
	})()
	for {
		select {
		case <-ctx.Done():
			g.refuse()
			g.sendOn()
			g.shut()
			return nil
		case <-g.reached:
			begun := g.now()
			g.Recheck()
			g.rest(ctx, min(restFor*g.now().Sub(begun), restMost))
		}
	}
}

// restFor is how much longer than a look at all connections the pause after it is: with many of them, other regions acknowledge sooner than all
// have been looked at. restMost bounds it.
const (
	restFor  = 4
	restMost = 100 * time.Millisecond
)

// rest waits for some time, or until ctx ends.
func (g *Gateway) rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	over := make(chan struct{})
	defer g.cfg.Clock.AfterFunc(d, func() { close(over) })()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// Watch brings the region's events to the connections until stop.
func (g *Gateway) Watch() (stop func()) { return g.cfg.Backend.Watch(g.deliver) }

// deliver is the region's watcher. A node that has taken over another's state has not told what led to it: its clients
// come back with their tokens, which the state may or may not cover.
func (g *Gateway) deliver(events []wire.Event) {
	for i := range events {
		if events[i].Reset {
			for _, c := range g.all() {
				c.end(wire.Errorf(wire.Unavailable, "this node had fallen behind and starts anew: come back with your cur"), wire.StatusResync)
			}
			return
		}
	}
	g.hub.deliver(events)
}

func (g *Gateway) all() []*Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.conns)
}

// refuse takes no more connections.
func (g *Gateway) refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closing {
		g.closing = true
		close(g.leaving)
	}
}

func (g *Gateway) shut() {
	g.refuse()
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	for _, c := range g.all() {
		c.end(wire.Errorf(wire.Unavailable, "this node is going away: come back, here or elsewhere"), wire.StatusGoingAway)
	}
	defer g.cfg.Clock.AfterFunc(partTimeout, g.cut.all)()
	g.running.Wait()
}

// Handler serves GET /v1/connect.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/connect", g.connect)
	return mux
}

func offers(r *http.Request) []string {
	var all []string
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			all = append(all, strings.TrimSpace(p))
		}
	}
	return all
}

func (g *Gateway) connect(w http.ResponseWriter, r *http.Request) {
	accept(w, r, g.metrics, g.cut, func(s *webSocket) (party, func(), error) {
		c, err := g.Connect(s, s.signal)
		if err != nil {
			return nil, nil, err
		}
		return c, c.End, nil
	})
}

// cutter cuts all connections of a node that has waited for them for long enough.
type cutter struct {
	ctx context.Context // of all connections
	all context.CancelFunc
}

func newCutter() cutter {
	ctx, cancel := context.WithCancel(context.Background())
	return cutter{ctx, cancel}
}

// accept makes a WebSocket of a request, once there is somebody to talk to; drop lets go of that.
func accept(w http.ResponseWriter, r *http.Request, m *metrics, cut cutter, connect func(*webSocket) (p party, drop func(), err error)) {
	if !slices.Contains(offers(r), Subprotocol) {
		m.refused.WithLabelValues("version").Inc()
		http.Error(w, "no known subprotocol was offered; this server speaks "+Subprotocol, http.StatusBadRequest)
		return
	}
	s := newSocket()
	p, drop, err := connect(s)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer drop()
	// Any origin may connect: who a client is comes from the token in hello, never from a cookie.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{Subprotocol}, InsecureSkipVerify: true})
	if err != nil {
		m.refused.WithLabelValues("upgrade").Inc()
		return
	}
	s.serve(cut.ctx, p, ws)
}

// ErrFull is what Connect answers when the gateway has MaxConns connections, or is closing.
var ErrFull = errors.New("this node takes no more connections now: try another region or come back")

// Connect takes in a connection that its owner drives, as this package does for WebSockets, and ends with End; Run waits for
// that. wake is called when Work has something to do, by any goroutine and under locks: it must neither block nor call the
// gateway.
func (g *Gateway) Connect(t Transport, wake func()) (*Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, far := t.(*guest)
	if g.closed || g.closing && !far || len(g.conns) >= g.cfg.MaxConns { // an edge may not have heard yet that this node ends
		g.metrics.refused.WithLabelValues("full").Inc()
		return nil, ErrFull
	}
	g.lastSeq++
	c := &Conn{
		far: far,
		g:   g, t: t, wake: wake, seq: g.lastSeq, name: fmt.Sprintf("%s-%s-%d", g.cfg.Region, g.cfg.Node, g.lastSeq),
		subs: map[string]*sub{}, rate: newBucket(g.now()),
	}
	g.conns = append(g.conns, c)
	g.metrics.conns.Set(float64(len(g.conns)))
	g.running.Add(1)
	return c, nil
}

// drop lets go of a connection, once.
func (g *Gateway) drop(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, there := slices.BinarySearchFunc(g.conns, c.seq, func(o *Conn, seq uint64) int { return cmp.Compare(o.seq, seq) })
	if !there {
		return
	}
	g.conns = slices.Delete(g.conns, i, i+1)
	g.metrics.conns.Set(float64(len(g.conns)))
	g.running.Done()
	select {
	case g.left <- struct{}{}:
	default:
	}
}

func (g *Gateway) now() time.Time { return g.cfg.Clock.Now() }

// age is since the gateway was made.
func (g *Gateway) age() time.Duration { return g.now().Sub(g.started) }
