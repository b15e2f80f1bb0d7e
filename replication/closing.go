package replication

import (
	"context"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Closings is what the region has committed of origins that are closed and of regions that were given up, and what commits more of it.
type Closings interface {
	feeds.Closings
	// Level is the feature level that the region has committed.
	Level() uint32
	// CloseOrigins commits that nobody numbers under some origins any more.
	CloseOrigins(ctx context.Context, finals []wire.Final) error
	// Evict commits what others say of a region that was given up.
	Evict(ctx context.Context, region string, e crdt.Eviction) error
}

const (
	// closeEvery is how often a leader looks which origins can be closed.
	closeEvery = time.Second
	// closeLimit is how long a commit of that may take. It is tried again.
	closeLimit = 5 * time.Second
)

// close closes origins of some partitions under which nobody numbers any more, once all other regions hold the same of them, until ctx ends.
func (l *Links) close(ctx context.Context, partitions uint64) {
	for wait(ctx, closeEvery) {
		l.showEvicted()
		others, all := l.cfg.Pool.peerRegions()
		if !all {
			continue // a region that never answered may hold more
		}
		m := l.cfg.Pool.matrix
		m.mu.Lock()
		finals := m.known.Closable(l.local, others, partitions, time.Now(), m.direct.last)
		m.mu.Unlock()
		if len(finals) > 0 {
			l.over(ctx, finals)
		}
	}
}

// showEvicted has gauges say nothing of regions that were evicted, and of those that are back what is so.
func (l *Links) showEvicted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for region := range l.cfg.Pool.cfg.Roster.Evictions(0) {
		l.show(region)
	}
}

// over commits that origins are closed.
func (l *Links) over(ctx context.Context, finals []wire.Final) {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	if err := l.cfg.Closings.CloseOrigins(ctx, finals); err != nil && ctx.Err() == nil {
		l.cfg.Logger.Warn("origins are not closed; tried again", "err", err)
	}
}

// learn commits that a region was given up.
func (l *Links) learn(ctx context.Context, e *feeds.Evict) {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	if err := l.cfg.Closings.Evict(ctx, e.Region, e.Eviction); err != nil && ctx.Err() == nil {
		l.cfg.Logger.Warn("what others say of an evicted region is not noted; tried again", "region", e.Region, "err", err)
	}
}

// ended takes what a region says of those that were given up, and which incarnations it names.
func (m *matrix) ended(region, home string, h *peerpb.Heads) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.Told(region, h)
	m.known.Named(region, home, h)
}
