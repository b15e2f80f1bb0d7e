package replication

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// subscription is a feed that a peer follows.
type subscription struct {
	next  uint64 // the f to send next
	sent  []sent // not acknowledged
	bytes int    // of sent
}

type sent struct {
	last  uint64
	bytes int
}

// server is one peer's stream, served.
type server struct {
	l      *Links
	stream peerpb.Peer_FeedsServer
	region string // of the peer
	wake   chan struct{}

	// guarded by mu
	mu       sync.Mutex
	subs     map[feed]*subscription
	dirty    [crdt.Partitions]bool
	inFlight int
	refused  []*peerpb.Refused
}

// Feeds implements peerpb.PeerServer.
func (l *Links) Feeds(stream peerpb.Peer_FeedsServer) error {
	ctx := stream.Context()
	md, _ := metadata.FromIncomingContext(ctx)
	region := first(md, regionLabel)
	if !crdt.ValidRegion(region) || region == l.cfg.Region {
		return status.Errorf(codes.InvalidArgument, "region %q does not follow region %q", region, l.cfg.Region)
	}
	if !l.cfg.Leads() {
		return l.notLeader(stream)
	}
	s := &server{l: l, stream: stream, region: region, wake: make(chan struct{}, 1), subs: map[feed]*subscription{}}
	defer l.cfg.Source.Watch(s.committed)()
	gone := make(chan error, 1)
	go func() { gone <- s.receive(ctx) }()
	err := s.send(ctx, gone)
	return err
}

// committed marks partitions with new records; it runs on the region's apply goroutine.
func (s *server) committed(events []wire.Event) {
	s.mu.Lock()
	for i := range events {
		for p := range s.dirty {
			s.dirty[p] = s.dirty[p] || events[i].Reset
		}
		for _, ch := range events[i].Changes {
			s.dirty[ch.Dot.Partition] = true
		}
	}
	s.mu.Unlock()
	s.signal()
}

func (s *server) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// receive takes what the peer wants until the stream ends.
func (s *server) receive(ctx context.Context) error {
	for {
		want, err := s.stream.Recv()
		if err != nil {
			return err
		}
		for _, sub := range want.Subscribe {
			s.subscribe(ctx, sub)
		}
		for _, a := range want.Ack {
			s.ack(a)
		}
		s.signal()
	}
}

func feedOf(origin string, partition uint32) (feed, error) {
	o, err := crdt.ParseOrigin(origin)
	if err != nil {
		return feed{}, err
	}
	if partition >= crdt.Partitions {
		return feed{}, errors.New("no such partition")
	}
	return feed{o, uint8(partition)}, nil
}

func (s *server) subscribe(ctx context.Context, w *peerpb.Subscribe) {
	f, err := feedOf(w.Origin, w.Partition)
	if err != nil {
		s.l.metrics.refused.WithLabelValues("subscription").Inc()
		return
	}
	fork := false
	if !w.Stop {
		fork = s.compare(ctx, f, w)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.subs[f]; old != nil {
		s.inFlight -= old.bytes
		delete(s.subs, f)
	}
	switch {
	case w.Stop:
	case fork:
		s.refused = append(s.refused, &peerpb.Refused{
			Origin: w.Origin, Partition: w.Partition, Fork: true, Why: "the running hash differs at the cursor",
		})
	default:
		s.subs[f] = &subscription{next: w.F + 1}
		s.dirty[f.p] = true
	}
}

// compare holds a peer's cursor against what is held here, and reports a fork. A peer that has more of our own
// incarnation than we do, or something else, shows that we lost data: we go on under a new one.
func (s *server) compare(ctx context.Context, f feed, w *peerpb.Subscribe) (fork bool) {
	head := s.l.cfg.Local.Cursors(f.p)[f.origin.ID()]
	why := ""
	if w.F > head {
		why = "a peer holds more of our feed than we do"
	} else if pos, ok := s.l.cfg.Source.Position(f.origin, f.p, w.F); ok && string(pos.Hash[:]) != string(w.Hash) {
		why, fork = "a peer holds something else at a position of our feed", true
		s.l.metrics.refused.WithLabelValues("fork").Inc()
		s.l.cfg.Logger.Error("feeds differ", "origin", f.origin, "partition", f.p, "f", w.F, "peer", s.region)
	}
	if why != "" && f.origin == s.l.cfg.Local.Self() {
		if err := s.l.cfg.Local.Renew(ctx, f.origin, why); err != nil {
			s.l.cfg.Logger.Error("new incarnation", "err", err)
		}
	}
	return fork
}

func (s *server) ack(a *peerpb.Ack) {
	f, err := feedOf(a.Origin, a.Partition)
	if err != nil {
		s.l.metrics.refused.WithLabelValues("ack").Inc()
		return
	}
	s.l.cfg.Pool.matrix.ack(s.region, f.origin.ID(), f.p, a.F)
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subs[f]
	if sub == nil {
		return
	}
	for len(sub.sent) > 0 && sub.sent[0].last <= a.F {
		sub.bytes -= sub.sent[0].bytes
		s.inFlight -= sub.sent[0].bytes
		sub.sent = sub.sent[1:]
	}
	s.dirty[f.p] = true
}

// send sends heads and records until the stream ends.
func (s *server) send(ctx context.Context, gone <-chan error) error {
	beat := time.NewTicker(headsEvery)
	defer beat.Stop()
	if err := s.stream.Send(&peerpb.Have{Heads: s.l.heads()}); err != nil {
		return err
	}
	for {
		select {
		case err := <-gone:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-s.l.done:
			return status.Error(codes.Unavailable, "the node is going away")
		case <-beat.C:
			if !s.l.cfg.Leads() {
				return s.l.notLeader(s.stream)
			}
			if err := s.stream.Send(&peerpb.Have{Heads: s.l.heads()}); err != nil {
				return err
			}
		case <-s.wake:
		}
		if err := s.sendDirty(); err != nil {
			return err
		}
	}
}

// heads is how far every feed is applied here.
func (l *Links) heads() *peerpb.Heads {
	h := &peerpb.Heads{}
	for _, o := range l.cfg.Source.Origins() {
		head, id := &peerpb.Head{Origin: string(o), F: make([]uint64, crdt.Partitions)}, o.ID()
		for p := range head.F {
			head.F[p] = l.cfg.Local.Cursors(uint8(p))[id]
		}
		h.Heads = append(h.Heads, head)
	}
	return h
}

// sendDirty sends what there is, a batch of each feed at a time so that none waits for another, as far as the peer
// keeps up.
func (s *server) sendDirty() error {
	for again := true; again; {
		again = false
		for _, f := range s.due() {
			more, err := s.sendBatch(f)
			if err != nil {
				return err
			}
			again = again || more
		}
	}
	return s.sendRefused()
}

func (s *server) sendRefused() error {
	s.mu.Lock()
	refused := s.refused
	s.refused = nil
	s.mu.Unlock()
	for _, r := range refused {
		if err := s.stream.Send(&peerpb.Have{Refused: r}); err != nil {
			return err
		}
	}
	return nil
}

// due returns the feeds of partitions that were marked, and clears the marks.
func (s *server) due() []feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []feed
	for f := range s.subs {
		if s.dirty[f.p] {
			due = append(due, f)
		}
	}
	if s.inFlight < maxInFlight {
		s.dirty = [crdt.Partitions]bool{}
		return due
	}
	return nil // an ack wakes us
}

func (s *server) sendBatch(f feed) (more bool, err error) {
	s.mu.Lock()
	sub := s.subs[f]
	s.mu.Unlock()
	if sub == nil {
		return false, nil
	}
	head := s.l.cfg.Local.Cursors(f.p)[f.origin.ID()]
	if sub.next > head {
		return false, nil
	}
	rs, err := s.l.cfg.Source.Feed(f.origin, f.p, sub.next, batchBytes)
	if err != nil || len(rs.Records) == 0 {
		return false, err
	}
	size := 0
	for _, r := range rs.Records {
		size += len(r)
	}
	s.mu.Lock()
	if s.subs[f] != sub { // subscribed anew meanwhile
		s.mu.Unlock()
		return true, nil
	}
	sub.next = rs.Last() + 1
	sub.sent = append(sub.sent, sent{rs.Last(), size})
	sub.bytes += size
	s.inFlight += size
	if sub.next <= head {
		s.dirty[f.p] = true
	}
	s.mu.Unlock()
	crossing := s.l.crossings("send", trace.SpanKindProducer, s.region, &rs)
	err = s.stream.Send(&peerpb.Have{Records: &peerpb.Records{
		Origin: string(f.origin), Partition: uint32(f.p), From: rs.From, Records: rs.Records, Hash: rs.Hash[:],
	}})
	end(crossing, err)
	return sub.next <= head, err
}
