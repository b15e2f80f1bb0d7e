package replication

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
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
	// Self is what the region issues as in a partition.
	Self(partition uint8) crdt.Origin
	Cursors(partition uint8) crdt.Vector
	Ingest(ctx context.Context, rs wire.Records) (cursor uint64, err error)
	// Renew goes on under an incarnation that is later than the lost one, and than a number.
	Renew(ctx context.Context, lost crdt.Origin, above uint64, why string) error
}

// Lead is who leads the region's groups. Partitions are a bit each.
type Lead interface {
	// Led is the partitions that this node leads, and knows the heads of: only their feeds are served here.
	Led() (partitions uint64)
	// Leader is the peer address of the node that leads the group of the first of some partitions, "" if that is this one or
	// not known.
	Leader(partitions uint64) string
	// Leaders are the peer addresses of the other nodes that lead a group.
	Leaders() []string
	// Groups is how many groups there are.
	Groups() int
}

// LinksConfig says between what links run.
type LinksConfig struct {
	Region, Node string
	Source       Source
	Local        Local
	States       States
	Closings     Closings
	Pool         *Pool
	Lead         Lead
	Keys         [][]byte // credentials between nodes: the first is shown, all are accepted
	Dial         func(ctx context.Context, addr string) (net.Conn, error)
	Instance     uint64
	// Forked is told of an origin of the own region under whose numbers a peer holds something else; nil: nobody is.
	Forked  func(o crdt.Origin, peer string)
	Now     func() time.Time // that ops are put by; nil: time.Now
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	Tracer  trace.Tracer // nil: no spans
}

const (
	headsEvery   = 250 * time.Millisecond
	gatherFor    = 2 * time.Millisecond // between two messages under load
	silentAfter  = 2 * time.Second      // without heads a link is dead
	redialMin    = 100 * time.Millisecond
	redialMax    = 2 * time.Second
	quietFor     = time.Second // a link is down before it is said: regions that start, or change leaders, are no news
	window       = 16 << 20    // gRPC flow control, for long fat links
	maxMessage   = 8 << 20
	maxPart      = feeds.MaxPart + 1<<20 // between nodes of a region, whose state has sessions of other regions in one value
	keyLabel     = "roam-key"
	regionLabel  = "roam-region"
	nodeLabel    = "roam-node"
	leaderLabel  = "roam-leader"
	groupsLabel  = "roam-groups"
	partsLabel   = "roam-partitions"
	acceptLabel  = "roam-accept"
	acceptBundle = "bundle" // records of several feeds in a message
	acceptZstd   = "zstd"   // and compressed
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
	keys    atomic.Pointer[[][]byte]
	spread  *spread
	pack    *packer
	intake  intake

	// guarded by mu
	mu    sync.Mutex
	quiet *feeds.Silence
	links map[lane]*link       // that are wanted; nil: there is none now
	forks map[lane]feeds.Forks // what was found, by the links before
}

type linkMetrics struct {
	records *prometheus.CounterVec
	refused *prometheus.CounterVec
	up      *prometheus.GaugeVec
	parts   *prometheus.CounterVec
}

// NewLinks prepares links and starts nothing.
func NewLinks(cfg LinksConfig) (l *Links, err error) {
	if cfg.Source == nil || cfg.Local == nil || cfg.States == nil || cfg.Closings == nil || cfg.Pool == nil || len(cfg.Keys) == 0 || cfg.Lead == nil {
		return nil, errors.New("links: Source, Local, States, Closings, Pool, Keys and Lead are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &linkMetrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_replication_records_total", Help: "Records taken from other regions, by region.",
		}, []string{"region"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_replication_refused_total", Help: "Peers and records refused, by reason.",
		}, []string{"reason"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "roam_replication_link_up", Help: "1 while a region's feeds are followed: those of all partitions that this node follows.",
		}, []string{"region"}),
	}
	m.parts = newTransferMetrics()
	lag := newLag(cfg.Region, cfg.Source, cfg.Local, cfg.Pool.matrix, cfg.Now)
	lag.out = func(region string) bool { return cfg.Pool.cfg.Roster.Evictions(0).Out(region) }
	cfg.Metrics.MustRegister(m.records, m.refused, m.up, m.parts, lag)
	l = &Links{
		cfg: cfg, metrics: m, lag: lag, done: make(chan struct{}), links: map[lane]*link{}, forks: map[lane]feeds.Forks{},
		conns: NewConns(ConnsConfig{cfg.Region, cfg.Node, cfg.Keys, cfg.Dial}), local: local{cfg.Source, cfg.Local, cfg.States, cfg.Closings},
	}
	l.quiet = feeds.NewSilence(l.local)
	l.SetKeys(cfg.Keys)
	if l.pack, err = newPacker(); err != nil {
		return nil, err
	}
	cfg.Metrics.MustRegister(l.pack.bytes)
	l.spread = newSpread(l)
	cfg.Pool.spread.Store(l.spread)
	cfg.Metrics.MustRegister(l.spread)
	return l, nil
}

// ServerOptions are what the gRPC server of the peer port needs.
func (l *Links) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(newHandshake()), grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window), grpc.MaxRecvMsgSize(maxMessage),
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

// Run follows the feeds of some partitions, a bit each, of all other regions until ctx ends. It runs on the node that leads
// the group that they belong to.
func (l *Links) Run(ctx context.Context, partitions uint64) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { l.trim(ctx, partitions) })
	defer l.leave(partitions)
	running.Go(func() { l.close(ctx, partitions) })
	followed := map[string]bool{}
	refresh := time.NewTicker(peersRefresh)
	defer refresh.Stop()
	for {
		l.awaitMet(partitions, followed)
		for _, m := range l.cfg.Pool.others() {
			if !followed[m.Region] {
				followed[m.Region] = true
				running.Go(func() { l.keep(ctx, lane{m.Region, partitions}) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-refresh.C:
		}
	}
}

// keep follows one lane for ever: a link that ends is dialed again, at the node that leads there if that is known, else
// on one of the region's nodes after the other, at addresses that membership may have forgotten.
func (l *Links) keep(ctx context.Context, n lane) {
	l.want(n)
	pause, said, hint, down := redialMin, false, "", time.Now()
	for try := 0; ctx.Err() == nil; try++ {
		addr, hinted := l.address(n.region, try), hint != ""
		if hinted {
			addr = hint
		}
		start := time.Now()
		err := l.follow(ctx, n, addr)
		if ctx.Err() != nil {
			break
		}
		if parts := n.split(groupsHint(err)); len(parts) > 1 {
			l.unwant(n)
			l.keepAll(ctx, parts)
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
			l.cfg.Logger.Warn("link down; it is dialed again for ever", "peer", n.region, "partitions", n.name(), "addr", addr, "err", err)
			said = true
		}
		switch {
		case status.Code(err) == codes.Unauthenticated:
			l.metrics.refused.WithLabelValues("secret").Inc()
		case errors.Is(err, feeds.ErrMessage):
			l.metrics.refused.WithLabelValues("message").Inc()
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
		}
		pause = min(2*pause, redialMax)
	}
	l.unwant(n)
}

func (l *Links) keepAll(ctx context.Context, all []lane) {
	var running sync.WaitGroup
	for _, n := range all {
		running.Go(func() { l.keep(ctx, n) })
	}
	running.Wait()
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
	States
	Closings
}
