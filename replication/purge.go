package replication

import (
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
)

// Home is the region that sees to a session that nobody uses, among all that were ever met and not evicted.
func (p *Pool) Home(session string) string {
	regions, _ := p.peerRegions()
	return feeds.Home(session, append(regions, p.cfg.Region))
}

// CaughtUp reports whether all other regions that were ever met, and not evicted, have said that they have what a vector covers in a partition. As long as a
// seed has not answered, nobody knows.
func (p *Pool) CaughtUp(partition uint8, v crdt.Vector) bool {
	regions, all := p.peerRegions()
	if !all {
		return false
	}
	p.matrix.mu.Lock()
	defer p.matrix.mu.Unlock()
	return p.matrix.known.CaughtUp(regions, partition, v, p.cfg.Roster.Evictions(partition))
}

// Home is the region that sees to a session of which something was removed: see Pool.Home.
func (l *Links) Home(session string) string { return l.cfg.Pool.Home(session) }

// Stable is what all regions that were ever met, and not evicted, have of a partition. It is only known while each of them is heard over a stream, is
// of a feature level, and has nothing that is not here: see feeds.Matrix.
func (l *Links) Stable(partition uint8, level uint32) (crdt.Vector, bool) {
	others, all := l.cfg.Pool.peerRegions()
	if !all {
		return nil, false // a region that never answered may have anything
	}
	now, m := time.Now(), l.cfg.Pool.matrix
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.Stable(l.local, others, partition, level, func(region string) bool { return m.direct.lately(region, partition, now) })
}
