package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/wire/peerpb"
)

// Doors is how an edge reaches the nodes that hold data.
type Doors interface {
	// DataNodes are the addresses of those of the region that are up, as far as is known.
	DataNodes() []string
	Door(addr string) (peerpb.DoorClient, error)
}

// EdgeConfig says what an edge serves.
type EdgeConfig struct {
	Doors   Doors
	Auth    Auth // who clients say they are is checked here as well, so that no node with data is trusted to be as strict
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// MaxConns bounds the connections; more are refused with 503. 0: 15,000.
	MaxConns int
}

// Edge has clients' sockets and nothing else: their connections live on nodes that hold data, over one stream to each. See NewEdge.
type Edge struct {
	cfg     EdgeConfig
	metrics *metrics
	cut     cutter
	ctx     context.Context // of all streams
	stop    context.CancelFunc
	streams sync.WaitGroup
	clients sync.WaitGroup

	mu        sync.Mutex
	closing   bool
	conns     int
	upstreams map[string]*upstream // by address: those that serve, or are about to
	lost      map[string]time.Time // when the stream to a node ended, until there is one again, or lostFor
}

const (
	// openSoon is how long a node is waited for that does not take a stream, before the next one is tried.
	openSoon = 300 * time.Millisecond
	// lostFor is how long a node that was lost is tried after all others.
	lostFor = 10 * time.Second
)

// NewEdge prepares an edge and starts nothing.
func NewEdge(cfg EdgeConfig) (*Edge, error) {
	if cfg.Doors == nil || cfg.Auth == nil {
		return nil, errors.New("gateway: an edge needs Doors and Auth")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 15_000
	}
	e := &Edge{cfg: cfg, metrics: newMetrics(cfg.Metrics), cut: newCutter(), upstreams: map[string]*upstream{}, lost: map[string]time.Time{}}
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e, nil
}

// Run serves until ctx ends; then it sends its clients away, and waits for them.
func (e *Edge) Run(ctx context.Context) error {
	<-ctx.Done()
	e.mu.Lock()
	e.closing = true
	serving := slices.Collect(maps.Values(e.upstreams))
	e.mu.Unlock()
	for _, u := range serving {
		u.sendAway("this node is going away: come back, here or elsewhere")
	}
	defer time.AfterFunc(partTimeout, e.cut.all).Stop()
	e.clients.Wait()
	e.stop()
	e.streams.Wait()
	return nil
}

// Ready reports whether a node that holds data takes clients.
func (e *Edge) Ready(ctx context.Context) error {
	_, err := e.upstream(ctx)
	return err
}

// Handler serves GET /v1/connect.
func (e *Edge) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/connect", e.connect)
	return mux
}

func (e *Edge) connect(w http.ResponseWriter, r *http.Request) {
	accept(w, r, e.metrics, e.cut, func(s *webSocket) (party, func(), error) {
		c, err := e.take(r.Context(), s)
		if err != nil {
			return nil, nil, err
		}
		return c, func() { e.drop(c) }, nil
	})
}

// take finds a node that has data for a connection.
func (e *Edge) take(ctx context.Context, s *webSocket) (*remote, error) {
	e.mu.Lock()
	if e.closing || e.conns >= e.cfg.MaxConns {
		e.mu.Unlock()
		e.metrics.refused.WithLabelValues("full").Inc()
		return nil, ErrFull
	}
	e.conns++
	e.clients.Add(1)
	e.metrics.conns.Set(float64(e.conns))
	e.mu.Unlock()
	c := &remote{e: e, socket: s, turn: make(chan place, 1), handed: make(chan *peerpb.Handed, 1)}
	at, err := e.place(ctx, c, nil)
	if err == nil {
		c.turn <- at
		return c, nil
	}
	e.release()
	e.metrics.refused.WithLabelValues("no_data_node").Inc()
	return nil, err
}

// place brings a client, that begins or that a node has handed over, to a node. One that says at this moment that it is about to end is not tried twice.
func (e *Edge) place(ctx context.Context, c *remote, h *peerpb.Handed) (at place, err error) {
	for range 2 {
		var u *upstream
		if u, err = e.upstream(ctx); err != nil {
			return at, err
		}
		if at, err = u.take(c, h); err == nil {
			return at, nil
		}
	}
	return at, err
}

func (e *Edge) drop(c *remote) {
	at := <-c.turn
	at.up.leave(at.id)
	c.turn <- at
	e.release()
}

func (e *Edge) release() {
	e.mu.Lock()
	e.conns--
	e.metrics.conns.Set(float64(e.conns))
	e.mu.Unlock()
	e.clients.Done()
}

var errNoDataNode = errors.New("no node of this region that holds data can be reached: try another region, or come back")

// upstream is a stream to the node with data that serves the fewest of this edge's clients, of those that answer. One that does not answer soon is waited for only
// if no other does.
func (e *Edge) upstream(ctx context.Context) (*upstream, error) {
	nodes, why := e.inOrder(), errNoDataNode
	for _, patience := range []time.Duration{openSoon, upstreamSilent} {
		for _, addr := range nodes {
			u := e.to(addr)
			if u == nil {
				return nil, ErrFull
			}
			switch err := u.await(ctx, patience); {
			case err == nil && u.ends(): // its clients are on their way elsewhere
			case err == nil:
				e.found(addr)
				return u, nil
			case ctx.Err() != nil:
				return nil, ctx.Err()
			default:
				why = fmt.Errorf("%w: %w", errNoDataNode, err)
			}
		}
	}
	return nil, why
}

// inOrder are the nodes with data, in the order in which they are tried. Those that were lost lately come last: membership takes seconds to notice that a node hangs.
func (e *Edge) inOrder() []string {
	nodes := e.cfg.Doors.DataNodes()
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for addr, when := range e.lost {
		if now.Sub(when) > lostFor {
			delete(e.lost, addr)
		}
	}
	slices.SortStableFunc(nodes, func(a, b string) int { return cmp.Compare(e.rank(a), e.rank(b)) })
	return nodes
}

// rank is how many clients a node has, or more than any has. The caller holds mu.
func (e *Edge) rank(addr string) int {
	if _, lost := e.lost[addr]; lost {
		return math.MaxInt
	}
	return e.upstreams[addr].load()
}

// found takes it that a node serves.
func (e *Edge) found(addr string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.lost, addr)
}

// to returns the stream to a node, begun if there is none; nil if the edge is closing.
func (e *Edge) to(addr string) *upstream {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return nil
	}
	u := e.upstreams[addr]
	if u == nil {
		u = newUpstream(e, addr)
		e.upstreams[addr] = u
		e.streams.Go(func() {
			u.run()
			e.mu.Lock()
			delete(e.upstreams, addr)
			e.lost[addr] = time.Now()
			e.mu.Unlock()
			u.end()
		})
	}
	return u
}
