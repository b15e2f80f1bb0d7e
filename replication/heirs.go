package replication

import (
	"cmp"
	"slices"
	"time"

	"github.com/roamsync/roam/wire"
)

// Heirs is where the n-th client of this node goes when the node ends: other nodes of the region, best first. Those without data serve nobody alone.
func (p *Pool) Heirs(n int) (to []wire.MoveTo) {
	if len(p.DataNodes()) == 0 {
		return nil
	}
	for _, m := range heirs(time.Now().UnixMilli(), p.began, p.mates(), n) {
		to = append(to, wire.MoveTo{Region: m.Region, URL: m.URL})
	}
	return to
}

// mates are the other nodes of the region that are alive.
func (p *Pool) mates() []peer {
	return p.known(func(m peer) bool { return m.Region == p.cfg.Region && m.Alive })
}

// lastStarted orders nodes: who started last comes first, and who does not say so last.
func lastStarted(nodes []peer) []peer {
	nodes = slices.Clone(nodes)
	slices.SortStableFunc(nodes, func(a, b peer) int { return cmp.Compare(b.Start, a.Start) })
	return nodes
}

// heirs orders the nodes that the n-th client of a node goes to. If one was restarted since this one was, by their ages, a rolling restart has come past it
// and will not come again: the last of them takes all, so that each node's clients go to the one before it. If not, each node of the others is
// as likely to be the next, and they share the clients.
func heirs(now, own int64, others []peer, n int) []peer {
	all := lastStarted(others)
	if len(all) == 0 || fresh(now, own, all[0].Start) {
		return all
	}
	n %= len(all)
	return slices.Concat(all[n:], all[:n])
}

// fresh reports whether a process started so much later than this one that it was restarted since: it is less than half as old.
func fresh(now, own, start int64) bool { return start > 0 && now-start < (now-own)/2 }
