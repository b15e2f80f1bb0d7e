package gateway

import (
	"maps"
	"slices"
	"time"
)

// Through is what an edge has at a node that holds data.
type Through struct {
	Addr    string `json:"addr"`
	Clients int    `json:"clients"`
	// Gone: the stream to it ended within the last 10 s, and there is none since. Membership takes seconds to notice.
	Gone bool `json:"gone"`
}

// Through are the nodes that this edge serves clients through, or would, by address.
func (e *Edge) Through() []Through {
	addrs := e.cfg.Doors.DataNodes()
	e.mu.Lock()
	defer e.mu.Unlock()
	addrs = slices.AppendSeq(addrs, maps.Keys(e.upstreams))
	slices.Sort(addrs)
	all := []Through{}
	for _, addr := range slices.Compact(addrs) {
		t := Through{Addr: addr}
		if u := e.upstreams[addr]; u != nil {
			t.Clients = len(u.all())
		}
		when, lost := e.lost[addr]
		t.Gone = lost && time.Since(when) <= lostFor
		all = append(all, t)
	}
	return all
}
