package replication

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// server is one peer's stream, served: the shell of a feeds.Sender.
type server struct {
	l       *Links
	stream  peerpb.Peer_FeedsServer
	region  string // of the peer
	parts   uint64 // partitions that it asks for, a bit each
	wake    chan struct{}
	touched atomic.Uint64 // partitions with commits that the sender was not told of, a bit each

	bundles bool // the peer understands bundles
	zstd    bool // and compressed ones

	// owned by send
	pulse feeds.Pulse
	batch *peerpb.Bundle // records that go in one message
	size  int            // of these, about
	spans []crossing
	sent  time.Time // when records went last

	epoch uint64 // of the peer's region, as last said; owned by receive

	mu     sync.Mutex // guards what follows
	sender *feeds.Sender
}

// Feeds implements peerpb.PeerServer.
func (l *Links) Feeds(stream peerpb.Peer_FeedsServer) error {
	ctx := stream.Context()
	md, _ := metadata.FromIncomingContext(ctx)
	region := first(md, regionLabel)
	if !crdt.ValidRegion(region) || region == l.cfg.Region {
		return status.Errorf(codes.InvalidArgument, "region %q does not follow region %q", region, l.cfg.Region)
	}
	parts, err := asked(md)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "%s: %v", partsLabel, err)
	}
	if !l.leads(parts) || !l.ofOneGroup(parts) {
		return l.notLeader(stream, parts)
	}
	s := &server{
		l: l, stream: stream, region: region, parts: parts, wake: make(chan struct{}, 1),
		sender: feeds.NewSender(region, l.local, parts), batch: &peerpb.Bundle{},
		bundles: slices.Contains(md.Get(acceptLabel), acceptBundle), zstd: slices.Contains(md.Get(acceptLabel), acceptZstd),
	}
	s.sender.Brief = s.bundles
	defer l.cfg.Source.Watch(s.committed)()
	gone := make(chan error, 1)
	go func() { gone <- s.receive(ctx) }()
	return s.send(ctx, gone)
}

// committed runs on the region's apply goroutines.
func (s *server) committed(events []wire.Event) {
	if touched := wire.Touched(events) & s.parts; touched != 0 {
		s.touched.Or(touched)
		s.signal()
	}
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
		if err := feeds.CheckEpochs(want.Epoch); err != nil {
			s.l.metrics.refused.WithLabelValues("message").Inc()
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if want.Epoch != 0 {
			s.epoch = want.Epoch
		}
		var acks []acked
		s.mu.Lock()
		s.sender.Want(want, func(f feeds.Feed, cursor uint64) { acks = append(acks, acked{f.Origin.ID(), f.Partition, cursor}) })
		actions := s.sender.Take()
		s.mu.Unlock()
		s.l.cfg.Pool.matrix.acks(s.region, s.epoch, acks)
		for _, a := range actions {
			switch {
			case a.Renew != nil:
				s.l.renew(ctx, a.Renew)
			case a.Event != nil:
				s.l.event(s.region, a.Event)
			}
		}
		s.signal()
	}
}

// send sends heads and records until the stream ends.
func (s *server) send(ctx context.Context, gone <-chan error) error {
	beat := time.NewTicker(headsEvery)
	defer beat.Stop()
	if err := s.beat(); err != nil {
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
			if !s.l.leads(s.parts) {
				return s.l.notLeader(s.stream, s.parts)
			}
			if err := s.beat(); err != nil {
				return err
			}
		case <-s.wake:
			s.gather(ctx)
		}
		if err := s.sendAll(); err != nil {
			return err
		}
	}
}

// gather waits a little when records were sent just now: under load what is committed in between goes together. The other region
// commits together what has come so, too.
func (s *server) gather(ctx context.Context) {
	if d := gatherFor - time.Since(s.sent); d > 0 {
		wait(ctx, d)
	}
}

// beat says how far the feeds are applied here, if that has changed, and now and then that it has not.
func (s *server) beat() error {
	have := s.pulse.Beat(feeds.Heads(s.l.local, s.l.cfg.Source.Origins(), s.parts))
	if have == nil {
		return nil
	}
	return s.stream.Send(have)
}

// leads reports whether this node leads the groups of all these partitions.
func (l *Links) leads(partitions uint64) bool { return partitions&^l.cfg.Lead.Led() == 0 }

// ofOneGroup reports whether partitions are of one group here, and so numbered under one incarnation: heads name one.
func (l *Links) ofOneGroup(partitions uint64) bool {
	return len(lane{partitions: partitions}.split(l.cfg.Lead.Groups())) <= 1
}

// sendAll sends what there is, as far as the peer keeps up.
func (s *server) sendAll() error {
	for {
		s.mu.Lock()
		s.sender.Committed(s.touched.Swap(0))
		have, err := s.sender.Next()
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if have == nil {
			return s.flush()
		}
		if err := s.queue(have); err != nil {
			return err
		}
	}
}
