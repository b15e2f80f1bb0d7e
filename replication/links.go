package replication

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Source is what feeds are served from.
type Source interface {
	Origins() []crdt.Origin
	Feed(origin crdt.Origin, partition uint8, from uint64, maxBytes int) (wire.Records, error)
	Position(origin crdt.Origin, partition uint8, f uint64) (wire.Position, bool)
	Watch(func([]wire.Event)) (stop func())
}

// Local is what feeds are taken into.
type Local interface {
	Self() crdt.Origin
	Cursors(partition uint8) crdt.Vector
	Ingest(ctx context.Context, rs wire.Records) (cursor uint64, err error)
	Renew(ctx context.Context, lost crdt.Origin, why string) error
}

// LinksConfig says between what links run.
type LinksConfig struct {
	Region, Node string
	Source       Source
	Local        Local
	Pool         *Pool
	// Leads reports whether this node leads its region and knows its heads: only then feeds are served.
	Leads func() bool
	// Leader is the peer address of the node that leads the region, "" if that is this one or not known.
	Leader   func() string
	Keys     [][]byte // credentials between nodes: the first is shown, all are accepted
	Dial     func(ctx context.Context, addr string) (net.Conn, error)
	Instance uint64
	Logger   *slog.Logger
	Metrics  prometheus.Registerer
	Tracer   trace.Tracer // nil: no spans
}

const (
	headsEvery   = 250 * time.Millisecond
	silentAfter  = 2 * time.Second // without heads a link is dead
	redialMin    = 100 * time.Millisecond
	redialMax    = 2 * time.Second
	quietFor     = time.Second // a link is down before it is said: regions that start, or change leaders, are no news
	window       = 16 << 20    // gRPC flow control, for long fat links
	maxMessage   = 8 << 20
	keyLabel     = "roam-key"
	regionLabel  = "roam-region"
	nodeLabel    = "roam-node"
	leaderLabel  = "roam-leader"
	peersRefresh = time.Second
)

// Links serves this region's feeds and follows those of others. See NewLinks.
type Links struct {
	peerpb.UnimplementedPeerServer
	cfg     LinksConfig
	metrics *linkMetrics
	lag     *lag
	done    chan struct{} // closed by Close: streams end
	conns   *Conns
	local   local

	// guarded by mu
	mu    sync.Mutex
	links map[string]*link       // other regions that answer
	forks map[string]feeds.Forks // by region that is followed
}

type linkMetrics struct {
	records *prometheus.CounterVec
	refused *prometheus.CounterVec
	up      *prometheus.GaugeVec
}

// NewLinks prepares links and starts nothing.
func NewLinks(cfg LinksConfig) (*Links, error) {
	if cfg.Source == nil || cfg.Local == nil || cfg.Pool == nil || len(cfg.Keys) == 0 || cfg.Leads == nil || cfg.Leader == nil {
		return nil, errors.New("links: Source, Local, Pool, Keys, Leads and Leader are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	m := &linkMetrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_replication_records_total", Help: "Records taken from other regions, by region.",
		}, []string{"region"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_replication_refused_total", Help: "Peers and records refused, by reason.",
		}, []string{"reason"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "roam_replication_link_up", Help: "1 while a region's feeds are followed.",
		}, []string{"region"}),
	}
	lag := newLag(cfg.Local, cfg.Pool.matrix)
	cfg.Metrics.MustRegister(m.records, m.refused, m.up, lag)
	return &Links{
		cfg: cfg, metrics: m, lag: lag, done: make(chan struct{}), conns: NewConns(ConnsConfig{cfg.Region, cfg.Node, cfg.Keys, cfg.Dial}), links: map[string]*link{},
		local: local{cfg.Source, cfg.Local}, forks: map[string]feeds.Forks{},
	}, nil
}

// ServerOptions are what the gRPC server of the peer port needs.
func (l *Links) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window), grpc.MaxRecvMsgSize(maxMessage),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if err := l.admit(ss.Context()); err != nil {
				return err
			}
			return h(srv, ss)
		}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if err := l.admit(ctx); err != nil {
				return nil, err
			}
			return h(ctx, req)
		}),
	}
}

// Register adds the service to a server.
func (l *Links) Register(s grpc.ServiceRegistrar) { peerpb.RegisterPeerServer(s, l) }

// Identify implements peerpb.PeerServer.
func (l *Links) Identify(context.Context, *peerpb.IdentifyRequest) (*peerpb.IdentifyReply, error) {
	return &peerpb.IdentifyReply{Region: l.cfg.Region, Node: l.cfg.Node, Instance: l.cfg.Instance}, nil
}

// Run follows the feeds of all other regions until ctx ends. It runs on the node that leads its region.
func (l *Links) Run(ctx context.Context) error {
	defer l.lag.forget()
	var running sync.WaitGroup
	defer running.Wait()
	followed := map[string]bool{}
	refresh := time.NewTicker(peersRefresh)
	defer refresh.Stop()
	for {
		for _, m := range l.cfg.Pool.others() {
			if !followed[m.Region] {
				followed[m.Region] = true
				running.Go(func() { l.keep(ctx, m.Region) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-refresh.C:
		}
	}
}

// keep follows one region for ever: a link that ends is dialed again, at the node that leads there if that is known, else
// on one of the region's nodes after the other, at addresses that membership may have forgotten.
func (l *Links) keep(ctx context.Context, region string) {
	pause, said, hint, down := redialMin, false, "", time.Now()
	for try := 0; ctx.Err() == nil; try++ {
		addr, hinted := l.address(region, try), hint != ""
		if hinted {
			addr = hint
		}
		start := time.Now()
		err := l.follow(ctx, region, addr)
		if ctx.Err() != nil {
			return
		}
		hint = leaderHint(err)
		if time.Since(start) > silentAfter {
			pause, said, down = redialMin, false, time.Now()
		}
		if hint != "" && hint != addr && !hinted {
			continue
		}
		if !said && time.Since(down) > quietFor {
			l.cfg.Logger.Warn("link down; it is dialed again for ever", "peer", region, "addr", addr, "err", err)
			said = true
		}
		if status.Code(err) == codes.Unauthenticated {
			l.metrics.refused.WithLabelValues("secret").Inc()
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
		}
		pause = min(2*pause, redialMax)
	}
}

func (l *Links) address(region string, try int) string {
	var addrs []string
	for _, m := range l.cfg.Pool.others() {
		if m.Region == region {
			addrs = append(addrs, m.Addr)
		}
	}
	if len(addrs) == 0 {
		return ""
	}
	return addrs[try%len(addrs)]
}

// local is the region's own copy, as feeds need it.
type local struct {
	Source
	Local
}
