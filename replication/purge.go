package replication

import (
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
