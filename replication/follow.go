package replication

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// link is a stream from one other region, while it lives: the shell of a feeds.Follower.
type link struct {
	l *Links
	lane
	addr   string // of who serves it
	stream peerpb.Peer_FeedsClient
	ctx    context.Context
	cancel context.CancelCauseFunc

	applied atomic.Uint64 // partitions in which something was applied, a bit each, that the follower was not told of
	pace    acks          // owned by work
	waiting atomic.Bool   // the follower waits for something to be applied
	kick    chan struct{} // there is something to do
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows
	follower *feeds.Follower
	actions  []feeds.Action
}

var errSilent = errors.New("no heads were heard in time")

// follow runs one stream until it ends.
func (l *Links) follow(ctx context.Context, n lane, addr string) error {
	if addr == "" {
		return errors.New("no address is known")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := l.conns.To(addr)
	if err != nil {
		return err
	}
	silent := time.AfterFunc(2*silentAfter, func() { cancel(errSilent) })
	defer silent.Stop()
	stream, err := peerpb.NewPeerClient(conn).Feeds(n.asking(ctx))
	if err != nil {
		return err
	}
	k := &link{
		l: l, lane: n, addr: addr, stream: stream, ctx: ctx, cancel: cancel, kick: make(chan struct{}, 1),
		follower: feeds.NewFollower(n.region, l.local, l.forksOf(n), n.partitions),
	}
	defer k.running.Wait()
	defer cancel(nil)
	defer l.cfg.Source.Watch(k.watch)()
	defer l.unlink(k)
	k.running.Go(k.work)
	for {
		have, err := stream.Recv()
		if err == nil {
			silent.Reset(silentAfter)
			err = k.take(have)
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				if errors.Is(cause, errSilent) {
					l.conns.drop(addr, conn)
				}
				return cause
			}
			return withHint(err, stream)
		}
	}
}

// do has the follower do something, and sees to what comes of it.
func (k *link) do(fn func(*feeds.Follower, time.Time) error) error {
	k.mu.Lock()
	k.follower.Applied(k.applied.Swap(0))
	err := fn(k.follower, time.Now())
	k.actions = append(k.actions, k.follower.Take()...)
	k.waiting.Store(!k.follower.Due().IsZero())
	k.mu.Unlock()
	k.signal()
	return err
}

func (k *link) signal() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// watch runs on the region's apply goroutines.
func (k *link) watch(events []wire.Event) {
	k.applied.Or(wire.Touched(events) & k.partitions)
	if k.waiting.Load() {
		k.signal()
	}
}

// renew goes on under a new incarnation.
func (l *Links) renew(ctx context.Context, r *feeds.Renew) {
	if err := l.cfg.Local.Renew(ctx, r.Lost, r.Above, r.Why); err != nil && ctx.Err() == nil {
		l.cfg.Logger.Error("new incarnation", "err", err)
	}
}

// event counts what did not go as it should, and says it.
func (l *Links) event(peer string, e *feeds.Event) {
	l.metrics.refused.WithLabelValues(string(e.Reason)).Inc()
	if l.transferring(peer, e) {
		return
	}
	args := []any{"origin", e.Feed.Origin, "partition", e.Feed.Partition, "peer", peer, "why", e.Why}
	switch e.Reason {
	case feeds.Rewind:
		l.cfg.Logger.Warn("feed starts again from the cursor", args...)
	case feeds.Fork:
		l.cfg.Logger.Error("feed refused: two contents under one number; this partition's feed is not followed", args...)
		if l.cfg.Forked != nil && e.Feed.Origin.Region() == l.cfg.Region {
			l.cfg.Forked(e.Feed.Origin, peer)
		}
	case feeds.Evicted:
		l.cfg.Logger.Debug("a region that was evicted asks for feeds", args...)
	case feeds.NoPosition:
		l.cfg.Logger.Error("feed not followed", args...)
	}
}

func (k *link) take(have *peerpb.Have) error {
	switch {
	case feeds.Beating(have):
		return k.takeHeads(have.Heads)
	case have.Bundle != nil:
		return k.takeBundle(have.Bundle)
	case have.Records != nil:
		return k.takeRecords([]*peerpb.Records{have.Records})
	case have.Refused != nil:
		return k.do(func(f *feeds.Follower, now time.Time) error { return f.Refused(have.Refused, now) })
	case have.Part != nil:
		return k.do(func(f *feeds.Follower, now time.Time) error { f.Part(have.Part, now); return nil })
	case have.Piece != nil:
		return k.do(func(f *feeds.Follower, now time.Time) error { f.Piece(have.Piece, now); return nil })
	}
	return nil
}

func (k *link) takeRecords(all []*peerpb.Records) error {
	return k.do(func(f *feeds.Follower, _ time.Time) error {
		for _, r := range all {
			f.Named(r)
			rs := wire.Records{Origin: crdt.Origin(r.Origin), Partition: uint8(r.Partition), From: r.From, Records: r.Records}
			if err := f.Records(r, k.l.crossings("receive", trace.SpanKindConsumer, k.region, &rs)); err != nil {
				return err
			}
		}
		return nil
	})
}

// takeHeads learns how far the peer is; nil: as far as it was. The first heads make the link one that is up.
func (k *link) takeHeads(h *peerpb.Heads) error {
	up := k.l.linked(k)
	if err := k.do(func(f *feeds.Follower, now time.Time) error {
		f.Prefer(k.l.cfg.Pool.waits.at(now), now)
		return f.Heads(h, up, now)
	}); err != nil {
		return err
	}
	for _, head := range h.GetHeads() {
		k.l.cfg.Pool.matrix.heads(k.region, h.Epoch, k.partitions, crdt.Origin(head.Origin).ID(), head.F)
	}
	k.l.cfg.Pool.matrix.listen(k.region, k.partitions, time.Now())
	k.l.cfg.Pool.matrix.ended(k.region, k.l.cfg.Region, h)
	k.l.lag.heard(k.lane, time.Now())
	k.l.heard(k.lane)
	return nil
}

// prefer has what clients wait for come first.
func (k *link) prefer() {
	_ = k.do(func(f *feeds.Follower, now time.Time) error { f.Prefer(k.l.cfg.Pool.waits.at(now), now); return nil })
}

// work does what the follower asks for, and wakes it when something is due, until the link ends.
func (k *link) work() {
	for k.ctx.Err() == nil {
		k.mu.Lock()
		actions, due := k.actions, k.follower.Due()
		k.actions = nil
		k.mu.Unlock()
		for _, a := range actions {
			if a.Send == nil || !k.pace.holds(a.Send) {
				k.perform(a)
			}
		}
		if w := k.pace.take(time.Now()); w != nil {
			k.perform(feeds.Action{Send: w})
		}
		due = k.pace.due(due)
		var alarm <-chan time.Time
		if !due.IsZero() {
			alarm = time.After(time.Until(due))
		}
		select {
		case <-k.ctx.Done():
		case <-k.kick:
			if k.applied.Load() != 0 {
				_ = k.do(func(*feeds.Follower, time.Time) error { return nil }) // what waits for it is tried again
			}
		case <-alarm:
			_ = k.do(func(f *feeds.Follower, now time.Time) error { f.Tick(now); return nil })
		}
	}
}

func (k *link) perform(a feeds.Action) {
	switch {
	case a.Send != nil:
		if err := k.stream.Send(a.Send); err != nil {
			k.l.cfg.Logger.Debug("send to a peer", "peer", k.region, "err", err) // Recv says why
		}
	case a.Commit != nil:
		k.running.Go(func() { k.commit(a.Commit) }) // one a feed
	case a.Install != nil:
		k.running.Go(func() { k.install(a.Install) }) // one a partition
	case a.Renew != nil:
		k.running.Go(func() { k.l.renew(k.ctx, a.Renew) }) // once a heartbeat, until it is done
	case a.Evict != nil:
		k.running.Go(func() { k.l.learn(k.ctx, a.Evict) }) // like Close: once a heartbeat, until it is done
	case a.Close != nil:
		k.running.Go(func() { k.l.over(k.ctx, a.Close) })
	case a.Event != nil:
		k.l.event(k.region, a.Event)
	}
}

// commit takes one run of records in.
func (k *link) commit(b *feeds.Batch) {
	spans, _ := b.Note.([]crossing) // of the last piece only
	first := k.l.cfg.Pool.waits.at(time.Now())&(1<<b.Partition) != 0
	if err := k.l.intake.enter(k.ctx, len(b.Records.Records), first); err != nil {
		end(spans, err)
		return
	}
	start := time.Now()
	cursor, err := k.l.cfg.Local.Ingest(k.ctx, b.Records)
	k.l.intake.leave(len(b.Records.Records), time.Since(start), time.Now())
	if k.ctx.Err() != nil {
		end(spans, k.ctx.Err())
		return
	}
	if err != nil {
		end(spans, err)
	} else {
		b.Note = arrived(spans, cursor)
		if cursor >= b.Last() {
			k.l.metrics.records.WithLabelValues(k.region).Add(float64(len(b.Records.Records)))
		}
	}
	_ = k.do(func(f *feeds.Follower, now time.Time) error { f.Done(b, cursor, err, now); return nil })
}
