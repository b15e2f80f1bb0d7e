package replication

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// maxLost bounds the incarnations that are known to have failed and were not ended yet; others are found again.
	maxLost    = 16
	renewLimit = 5 * time.Second
)

// spread tells other regions' leaders what is where, in datagrams: the shell of feeds.Gossip and feeds.Eager.
type spread struct {
	l         *Links
	datagrams *prometheus.CounterVec
	fresh     *prometheus.CounterVec
	touched   atomic.Uint64 // partitions with commits that the loop has not seen, a bit each
	lossy     atomic.Bool   // there is a way on which records go ahead
	kick      chan struct{}
	lost      chan *feeds.Renew
	eager     feeds.Eager // owned by run

	mu     sync.Mutex // guards what follows; the matrix's, where both are needed, is taken before
	gossip *feeds.Gossip
}

func newSpread(l *Links) *spread {
	return &spread{
		l: l, kick: make(chan struct{}, 1), lost: make(chan *feeds.Renew, maxLost),
		gossip: feeds.NewGossip(l.cfg.Region+"/"+l.cfg.Node, rand.Uint32(), l.local, time.Now()),
		datagrams: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_replication_datagrams_total", Help: "Datagrams of gossip about what is where, by event: sent, failed, received, refused.",
		}, []string{"event"}),
		fresh: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_replication_eager_total",
			Help: "Records that went, or came, as datagrams ahead of the stream, by region and event.",
		}, []string{"region", "event"}),
	}
}

// Gossip tells other regions what is where, as far as this node leads, until ctx ends.
func (l *Links) Gossip(ctx context.Context) error {
	s := l.spread
	defer l.cfg.Source.Watch(s.committed)()
	tick := time.NewTicker(feeds.GossipEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-s.lost:
			ctx, cancel := context.WithTimeout(ctx, renewLimit)
			l.renew(ctx, r)
			cancel()
		case <-s.kick:
			s.ahead(s.touched.Swap(0))
		case <-tick.C:
			touched := s.touched.Swap(0)
			s.ahead(touched)
			s.tell(touched != 0)
		}
	}
}

// committed runs on the region's apply goroutines.
func (s *spread) committed(events []wire.Event) {
	s.touched.Or(wire.Touched(events))
	if s.lossy.Load() {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

// view is what this node knows now.
func (s *spread) view(busy bool) feeds.View {
	l := s.l
	v := feeds.View{Led: l.cfg.Lead.Led(), Busy: busy, Origins: l.cfg.Source.Origins(), Nodes: l.cfg.Pool.nodes()}
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := map[string]bool{}
	for n := range l.links {
		if !seen[n.region] && l.up(n.region, v.Led) {
			v.Hears = append(v.Hears, n.region)
		}
		seen[n.region] = true
	}
	return v
}

// tell sends what others have not been told.
func (s *spread) tell(busy bool) {
	v := s.view(busy)
	m := s.l.cfg.Pool.matrix
	m.mu.Lock()
	s.mu.Lock()
	out := s.gossip.Tick(&m.known, v, time.Now())
	m.mu.Unlock()
	s.lossy.Store(len(s.gossip.Lossy(v.Led, time.Now())) > 0)
	s.mu.Unlock()
	for _, d := range out {
		s.send(d)
	}
}

// ahead sends records of partitions in which something was committed, a bit each, where the stream may be slow.
func (s *spread) ahead(touched uint64) {
	led := s.l.cfg.Lead.Led()
	records, passed := s.eager.Committed(s.l.local, touched&led, s.lossy.Load())
	if len(records) == 0 && passed == 0 {
		return
	}
	v, now := s.view(true), time.Now()
	var out []feeds.Datagram
	s.mu.Lock()
	for _, to := range s.gossip.Lossy(led, now) {
		region, _, _ := strings.Cut(to, "/")
		s.fresh.WithLabelValues(region, "passed").Add(float64(passed))
		for _, r := range records {
			out = append(out, s.gossip.Fresh(to, r, v, now))
			s.fresh.WithLabelValues(region, "sent").Add(float64(len(r.Records)))
		}
	}
	s.mu.Unlock()
	for _, d := range out {
		s.send(d)
	}
}

func (s *spread) send(d feeds.Datagram) {
	addr := s.l.cfg.Pool.gossipAddr(d.To)
	b, err := proto.Marshal(d.Body)
	if err == nil && addr != "" {
		err = s.l.cfg.Pool.list.SendToAddress(memberlist.Address{Addr: addr, Name: d.To}, b)
	}
	if err != nil || addr == "" {
		s.datagrams.WithLabelValues("failed").Inc()
		return
	}
	s.datagrams.WithLabelValues("sent").Inc()
}

// take runs on memberlist's goroutines.
func (s *spread) take(d *peerpb.Gossip) {
	if s.hastened(d) {
		return
	}
	var lost []*feeds.Renew
	var err error
	s.l.cfg.Pool.matrix.heard(func(m *feeds.Matrix) (grew bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		grew, lost, err = s.gossip.Take(m, d, s.l.cfg.Lead.Led(), time.Now())
		return grew
	})
	if err != nil {
		s.datagrams.WithLabelValues("refused").Inc()
		return
	}
	s.datagrams.WithLabelValues("received").Inc()
	for _, r := range lost {
		select {
		case s.lost <- r:
		default:
		}
	}
	if d.Fresh != nil {
		s.freshFrom(d)
	}
}

// freshFrom takes records that came ahead of the stream, over the link that is to bring them.
func (s *spread) freshFrom(d *peerpb.Gossip) {
	region, _, _ := strings.Cut(d.From, "/")
	l, outcome := s.l, feeds.NoFeed
	l.mu.Lock()
	var k *link
	for n, o := range l.links {
		if n.region == region && d.Fresh.Partition < crdt.Partitions && n.partitions&(1<<d.Fresh.Partition) != 0 {
			k = o
		}
	}
	l.mu.Unlock()
	if k != nil {
		spans := l.crossings("receive", trace.SpanKindConsumer, region, &wire.Records{
			Origin: crdt.Origin(d.Fresh.Origin), Partition: uint8(d.Fresh.Partition), From: d.Fresh.From, Records: d.Fresh.Records,
		})
		_ = k.do(func(f *feeds.Follower, _ time.Time) error { outcome = f.Eager(d.Fresh, spans); return nil })
	}
	s.fresh.WithLabelValues(region, string(outcome)).Add(float64(len(d.Fresh.Records)))
}

// whole is all that this node knows, if it leads; nil: it does not.
func (s *spread) whole() *peerpb.Gossip {
	v := feeds.View{Led: s.l.cfg.Lead.Led(), Origins: s.l.cfg.Source.Origins()}
	if v.Led == 0 {
		return nil
	}
	m := s.l.cfg.Pool.matrix
	m.mu.Lock()
	defer m.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gossip.Whole(&m.known, v)
}
