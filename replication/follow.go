package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// link is a stream from one other region, while it lives.
type link struct {
	l      *Links
	region string
	stream peerpb.Peer_FeedsClient
	ctx    context.Context

	// guarded by sending: a stream has one sender at a time
	sending sync.Mutex

	// guarded by mu
	mu      sync.Mutex
	heads   map[crdt.Origin][]uint64
	feeds   map[feed]*follower
	origins map[crdt.Origin]bool // that are followed over this link
	running sync.WaitGroup
}

// follower is one feed on its way in: what has arrived, in order, and is not yet committed.
type follower struct {
	frontier wire.Position // after the last of queue; before it, the cursor
	queue    []batch
	busy     bool // a goroutine takes from queue
	stale    int  // heads in a row that showed more than the frontier, which did not move
	seen     uint64
	changed  chan struct{}
}

// batch is some records that have arrived, and the spans of those that are watched.
type batch struct {
	wire.Records
	crossing []crossing
}

var errSilent = errors.New("no heads were heard in time")

// follow runs one stream until it ends.
func (l *Links) follow(ctx context.Context, region, addr string) error {
	if addr == "" {
		return errors.New("no address is known")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := l.conns.to(addr)
	if err != nil {
		return err
	}
	silent := time.AfterFunc(2*silentAfter, func() { cancel(errSilent) })
	defer silent.Stop()
	stream, err := peerpb.NewPeerClient(conn).Feeds(ctx)
	if err != nil {
		return err
	}
	k := &link{
		l: l, region: region, stream: stream, ctx: ctx,
		heads: map[crdt.Origin][]uint64{}, feeds: map[feed]*follower{}, origins: map[crdt.Origin]bool{},
	}
	defer k.running.Wait()
	defer cancel(nil)
	defer l.cfg.Source.Watch(k.applied)()
	defer l.metrics.up.WithLabelValues(region).Set(0)
	defer l.unlink(k)
	for {
		have, err := stream.Recv()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return withHint(err, stream)
		}
		silent.Reset(silentAfter)
		if err := k.take(have); err != nil {
			return err
		}
	}
}

func (l *Links) unlink(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.links[k.region] == k {
		delete(l.links, k.region)
	}
}

func (k *link) take(have *peerpb.Have) error {
	switch {
	case have.Heads != nil:
		return k.takeHeads(have.Heads)
	case have.Records != nil:
		return k.takeRecords(have.Records)
	case have.Refused != nil:
		k.takeRefused(have.Refused)
	}
	return nil
}

// takeHeads learns how far the peer is, and decides anew which origins to follow over this link.
func (k *link) takeHeads(h *peerpb.Heads) error {
	k.l.mu.Lock()
	if k.l.links[k.region] != k {
		k.l.links[k.region] = k
		k.l.cfg.Logger.Info("link up", "peer", k.region)
		k.l.metrics.up.WithLabelValues(k.region).Set(1)
	}
	up := map[string]bool{}
	for r := range k.l.links {
		up[r] = true
	}
	k.l.mu.Unlock()
	k.mu.Lock()
	for _, head := range h.Heads {
		o, err := crdt.ParseOrigin(head.Origin)
		if err != nil || len(head.F) > crdt.Partitions {
			k.mu.Unlock()
			return status.Error(codes.InvalidArgument, "bad heads")
		}
		k.heads[o] = head.F
	}
	k.mu.Unlock()
	for _, head := range h.Heads {
		o := crdt.Origin(head.Origin)
		k.l.cfg.Pool.matrix.heads(k.region, o.ID(), head.F)
		if err := k.consider(o, head.F, up); err != nil {
			return err
		}
	}
	k.l.lag.heard(k.region, time.Now())
	return nil
}

// follows decides whether an origin's feeds come over the link from a region: from its home while that is up, else
// from any region that has more than we do. Our own current incarnation is never followed.
func follows(origin, self crdt.Origin, from string, up map[string]bool, ahead bool) bool {
	switch {
	case origin == self:
		return false
	case origin.Region() == from:
		return true
	case up[origin.Region()]:
		return false
	}
	return ahead
}

func (k *link) consider(o crdt.Origin, heads []uint64, up map[string]bool) error {
	id, self := o.ID(), k.l.cfg.Local.Self()
	ahead := false
	for p, f := range heads {
		ahead = ahead || f > k.l.cfg.Local.Cursors(uint8(p))[id]
	}
	if o == self && ahead {
		return k.l.cfg.Local.Renew(k.ctx, self, "region "+k.region+" holds more of our feed than we do")
	}
	k.unstick(o, heads)
	want := follows(o, self, k.region, up, ahead)
	k.mu.Lock()
	have := k.origins[o]
	relayed := o.Region() != k.region
	k.mu.Unlock()
	switch {
	case want && !have:
		return k.subscribe(o)
	case !want && have && (!relayed || up[o.Region()]):
		return k.unsubscribe(o)
	}
	return nil
}

// staleHeads is how many heartbeats a feed may stand still while its source has more, before it starts again.
const staleHeads = 8

// unstick starts feeds again that stand still although the peer has more.
func (k *link) unstick(o crdt.Origin, heads []uint64) {
	var stuck []feed
	k.mu.Lock()
	for p, head := range heads {
		fw := k.feeds[feed{o, uint8(p)}]
		switch {
		case fw == nil:
		case head <= fw.frontier.F || fw.busy || fw.frontier.F != fw.seen:
			fw.stale, fw.seen = 0, fw.frontier.F
		default:
			if fw.stale++; fw.stale >= staleHeads {
				fw.stale = 0
				stuck = append(stuck, feed{o, uint8(p)})
			}
		}
	}
	k.mu.Unlock()
	for _, f := range stuck {
		k.running.Go(func() { k.again(f, errors.New("it stands still although the source has more")) })
	}
}

func (k *link) send(w *peerpb.Want) error {
	k.sending.Lock()
	defer k.sending.Unlock()
	return k.stream.Send(w)
}

func (k *link) subscribe(o crdt.Origin) error {
	w := &peerpb.Want{}
	for p := range uint8(crdt.Partitions) {
		if sub := k.start(feed{o, p}); sub != nil {
			w.Subscribe = append(w.Subscribe, sub)
		}
	}
	k.mu.Lock()
	k.origins[o] = true
	k.mu.Unlock()
	return k.send(w)
}

// start begins a feed at the cursor, and returns how to ask for it.
func (k *link) start(f feed) *peerpb.Subscribe {
	k.l.mu.Lock()
	forked := time.Since(k.l.forks[f]) < forkRetry
	k.l.mu.Unlock()
	if forked {
		return nil
	}
	cursor := k.l.cfg.Local.Cursors(f.p)[f.origin.ID()]
	pos, ok := k.l.cfg.Source.Position(f.origin, f.p, cursor)
	if !ok {
		k.l.cfg.Logger.Error("the record at our own cursor is not held", "origin", f.origin, "partition", f.p, "f", cursor)
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.feeds[f]
	k.feeds[f] = &follower{frontier: pos, changed: make(chan struct{}, 1)}
	if old != nil {
		k.feeds[f].changed = old.changed
	}
	return &peerpb.Subscribe{Origin: string(f.origin), Partition: uint32(f.p), F: pos.F, Hash: pos.Hash[:]}
}

func (k *link) unsubscribe(o crdt.Origin) error {
	w := &peerpb.Want{}
	k.mu.Lock()
	delete(k.origins, o)
	for p := range uint8(crdt.Partitions) {
		delete(k.feeds, feed{o, p})
		w.Subscribe = append(w.Subscribe, &peerpb.Subscribe{Origin: string(o), Partition: uint32(p), Stop: true})
	}
	k.mu.Unlock()
	return k.send(w)
}

// takeRecords queues records that follow the frontier, and drops others: after a new start, what was on its way for
// the old one comes first.
func (k *link) takeRecords(r *peerpb.Records) error {
	f, err := feedOf(r.Origin, r.Partition)
	if err != nil || len(r.Hash) != len(wire.Hash{}) {
		return status.Error(codes.InvalidArgument, "bad records")
	}
	rs := wire.Records{Origin: f.origin, Partition: f.p, From: r.From, Records: r.Records, Hash: wire.Hash(r.Hash)}
	k.mu.Lock()
	defer k.mu.Unlock()
	fw := k.feeds[f]
	if fw == nil || rs.From != fw.frontier.F+1 {
		k.l.metrics.refused.WithLabelValues("not_next").Inc()
		return nil
	}
	hash := fw.frontier.Hash
	for _, b := range rs.Records {
		hash = hash.Next(b)
	}
	if hash != rs.Hash {
		k.l.metrics.refused.WithLabelValues("hash").Inc()
		return fmt.Errorf("%s partition %d: records do not hash to what was announced: %w", f.origin, f.p, wire.ErrFork)
	}
	fw.frontier = wire.Position{F: rs.Last(), Hash: hash}
	fw.queue = append(fw.queue, batch{rs, k.l.crossings("receive", trace.SpanKindConsumer, k.region, &rs)})
	if !fw.busy {
		fw.busy = true
		k.running.Go(func() { k.drain(f, fw) })
	}
	return nil
}

// drain commits what is queued of one feed, in order, and acknowledges it. The sender bounds what can be queued: it
// stops when too much is not acknowledged.
func (k *link) drain(f feed, fw *follower) {
	for {
		k.mu.Lock()
		if len(fw.queue) == 0 || k.feeds[f] != fw || k.ctx.Err() != nil {
			fw.busy = false
			k.mu.Unlock()
			return
		}
		next := fw.queue[0]
		fw.queue = fw.queue[1:]
		k.mu.Unlock()
		err := k.commit(f, fw, &next)
		end(next.crossing, err)
		if err != nil && k.ctx.Err() == nil {
			k.again(f, err)
		}
	}
}

// commit takes one run of records in, waiting for causes that are not here yet.
func (k *link) commit(f feed, fw *follower, b *batch) error {
	for {
		cursor, err := k.l.cfg.Local.Ingest(k.ctx, b.Records)
		if err != nil {
			return err
		}
		b.crossing = arrived(b.crossing, cursor)
		if err := k.send(&peerpb.Want{Ack: []*peerpb.Ack{{Origin: string(f.origin), Partition: uint32(f.p), F: cursor}}}); err != nil {
			return err
		}
		if cursor >= b.Last() {
			k.l.metrics.records.WithLabelValues(k.region).Add(float64(len(b.Records.Records)))
			return nil
		}
		select {
		case <-fw.changed:
		case <-time.After(holdRetry):
		case <-k.ctx.Done():
			return k.ctx.Err()
		}
	}
}

// again starts a feed anew from the cursor: what became of a proposal is not known, or it did not fit.
func (k *link) again(f feed, why error) {
	k.l.metrics.refused.WithLabelValues("rewind").Inc()
	if errors.Is(why, wire.ErrFork) {
		k.forked(f, why.Error())
		return
	}
	k.l.cfg.Logger.Warn("feed starts again from the cursor", "origin", f.origin, "partition", f.p, "err", why)
	select {
	case <-time.After(redialMin):
	case <-k.ctx.Done():
		return
	}
	if sub := k.start(f); sub != nil {
		if err := k.send(&peerpb.Want{Subscribe: []*peerpb.Subscribe{sub}}); err != nil {
			k.l.cfg.Logger.Debug("subscribe again", "err", err)
		}
	}
}

func (k *link) forked(f feed, why string) {
	k.l.cfg.Logger.Error("feed refused: two contents under one number; this partition's feed is not followed", "origin", f.origin,
		"partition", f.p, "peer", k.region, "why", why)
	k.l.metrics.refused.WithLabelValues("fork").Inc()
	k.l.mu.Lock()
	k.l.forks[f] = time.Now()
	k.l.mu.Unlock()
	k.mu.Lock()
	delete(k.feeds, f)
	k.mu.Unlock()
}

func (k *link) takeRefused(r *peerpb.Refused) {
	if f, err := feedOf(r.Origin, r.Partition); err == nil {
		k.forked(f, r.Why)
	}
}

// applied wakes feeds that wait for causes; it runs on the region's apply goroutine.
func (k *link) applied(events []wire.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range events {
		for _, ch := range events[i].Changes {
			for f, fw := range k.feeds {
				if f.p == ch.Dot.Partition && f.origin != ch.Dot.Origin {
					select {
					case fw.changed <- struct{}{}:
					default:
					}
				}
			}
		}
	}
}
