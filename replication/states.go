package replication

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire/peerpb"
)

// States is what whole partitions are taken from and into, and what drops the records of feeds that nobody needs.
type States interface {
	// Part returns some of the sessions of a partition that are asked for, about maxBytes. wire.ErrUnavailable: not now.
	Part(w *peerpb.Pull, maxBytes int) (*peerpb.Part, error)
	// Pull is what to ask a region for next, to take a partition's state, and whether that was begun before; nil: all has come, and
	// is being merged.
	Pull(partition uint8, from string) (w *peerpb.Pull, resumed bool, err error)
	// Install commits a part of a partition's state, as another region has it.
	Install(ctx context.Context, part *peerpb.Part, from string) error
	// Trim commits new floors of some partitions' feeds, a bit each; acked is up to where all other regions have a feed.
	Trim(ctx context.Context, partitions uint64, acked func(crdt.Origin, uint8) uint64) error
}

// trimEvery is how often a leader looks which records nobody needs any more.
const trimEvery = 10 * time.Second

func newTransferMetrics() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roam_replication_transfers_total",
		Help: "Transfers of partitions' states from other regions, by region and event: floor (a feed is not kept from here on), resumed, done, failed, refused (a part was damaged), part, too_large.",
	}, []string{"region", "event"})
}

// trim keeps feeds short while this node leads their groups, until ctx ends.
func (l *Links) trim(ctx context.Context, partitions uint64) {
	for wait(ctx, trimEvery) {
		if err := l.cfg.States.Trim(ctx, partitions, l.cfg.Pool.acked()); err != nil && ctx.Err() == nil {
			l.cfg.Logger.Warn("feeds are not trimmed; tried again", "err", err)
		}
	}
}

// acked returns up to where all other regions have a feed: all that were ever met. One that never answered has nothing.
func (p *Pool) acked() func(crdt.Origin, uint8) uint64 {
	regions, all := p.peerRegions()
	return func(o crdt.Origin, partition uint8) uint64 {
		if !all {
			return 0
		}
		p.matrix.mu.Lock()
		defer p.matrix.mu.Unlock()
		return p.matrix.known.Acked(regions, o.ID(), partition, p.cfg.Roster.Evictions(partition))
	}
}

// install takes in a part of a partition's state.
func (k *link) install(in *feeds.Install) {
	err := k.l.cfg.States.Install(k.ctx, in.Part, in.From)
	if k.ctx.Err() != nil {
		return
	}
	if err == nil {
		k.l.metrics.parts.WithLabelValues(k.region, "part").Inc()
	}
	_ = k.do(func(f *feeds.Follower, now time.Time) error { f.Installed(in, err, now); return nil })
}

// transferring counts and says what happens to a transfer, and reports whether an event is of one.
func (l *Links) transferring(peer string, e *feeds.Event) bool {
	args := []any{"peer", peer, "partition", e.Feed.Partition}
	switch e.Reason {
	case feeds.BelowFloor:
		l.cfg.Logger.Debug("a feed is not kept from here on", append(args, "origin", e.Feed.Origin)...)
		l.metrics.parts.WithLabelValues(peer, "floor").Inc()
	case feeds.Resumed:
		l.cfg.Logger.Info("the transfer of a partition's state goes on", args...)
		l.metrics.parts.WithLabelValues(peer, "resumed").Inc()
	case feeds.Pulled:
		l.cfg.Logger.Info("a partition's state has come from another region", args...)
		l.metrics.parts.WithLabelValues(peer, "done").Inc()
	case feeds.NotPulled:
		l.cfg.Logger.Warn("transfer of a partition's state; tried again", append(args, "why", e.Why)...)
		l.metrics.parts.WithLabelValues(peer, "failed").Inc()
	case feeds.BadPart:
		l.cfg.Logger.Error("a part of a partition's state is refused: what the other region holds, or has sent, is damaged", append(args, "why", e.Why)...)
		l.metrics.parts.WithLabelValues(peer, "refused").Inc()
	case feeds.TooLarge:
		l.cfg.Logger.Error("a session is too large to be taken by another region as a whole", append(args, "why", e.Why)...)
		l.metrics.parts.WithLabelValues(peer, "too_large").Inc()
	default:
		return false
	}
	return true
}
