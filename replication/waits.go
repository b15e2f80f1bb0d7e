package replication

import (
	"math/bits"
	"strings"
	"sync"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire/peerpb"
)

// waitFor is for how long a partition comes before others after a client began to wait for it: what a region lacks of one partition is
// there long before.
const waitFor = time.Minute

// waits are the partitions that clients of the region wait for: they have seen in another region what is not here yet.
type waits struct {
	mu    sync.Mutex // guards until
	until [crdt.Partitions]time.Time
}

// add takes partitions, a bit each, and reports whether some of them are to be told of: the others were lately.
func (w *waits) add(partitions uint64, now time.Time) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.until {
		if partitions&(1<<p) != 0 && w.until[p].Sub(now) < waitFor/2 {
			w.until[p], news = now.Add(waitFor), true
		}
	}
	return news
}

// at returns those that are waited for, a bit each.
func (w *waits) at(now time.Time) (partitions uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.until {
		if now.Before(w.until[p]) {
			partitions |= 1 << p
		}
	}
	return partitions
}

// list returns them in order.
func (w *waits) list(now time.Time) []int {
	all := []int{}
	for at := w.at(now); at != 0; at &= at - 1 {
		all = append(all, bits.TrailingZeros64(at))
	}
	return all
}

// Hasten implements gateway.Peers. Whoever leads the partition follows its feeds; all nodes of the region are told, by a datagram, since
// who that is may change. One that is lost costs a client some time.
func (p *Pool) Hasten(partition uint8) {
	bit := uint64(1) << partition
	if !p.waits.add(bit, time.Now()) {
		return
	}
	s := p.spread.Load()
	if s == nil {
		return
	}
	s.l.prefer()
	for _, m := range p.known(func(m peer) bool { return m.Region == p.cfg.Region && m.Alive && !m.Gateway }) {
		s.send(feeds.Datagram{To: m.Region + "/" + m.Node, Body: &peerpb.Gossip{From: p.cfg.Region + "/" + p.cfg.Node, Waits: bit}})
	}
}

// hastened takes what another node of the region says that its clients wait for, and reports whether a datagram is of that kind.
func (s *spread) hastened(d *peerpb.Gossip) bool {
	p := s.l.cfg.Pool
	if region, _, _ := strings.Cut(d.From, "/"); region != p.cfg.Region || d.Waits == 0 {
		return false
	}
	if p.waits.add(d.Waits, time.Now()) {
		s.l.prefer()
	}
	return true
}

// prefer has what clients wait for come first, over all links.
func (l *Links) prefer() {
	var all []*link
	l.mu.Lock()
	for _, k := range l.links {
		if k != nil {
			all = append(all, k)
		}
	}
	l.mu.Unlock()
	for _, k := range all {
		k.prefer()
	}
}
