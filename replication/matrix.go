package replication

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// matrix is what is where, for several goroutines and whoever wants to know when it grows.
type matrix struct {
	mu       sync.Mutex
	known    feeds.Matrix
	watchers map[int]func()
	next     int
	direct   hearing // what came over streams of this node
	told     hearing // what other nodes of the region say of theirs
}

func newMatrix() *matrix {
	return &matrix{watchers: map[int]func(){}, direct: hearing{}, told: hearing{}}
}

// heard takes cursors, and tells the watchers if any grew.
func (m *matrix) heard(set func(*feeds.Matrix) (grew bool)) {
	m.mu.Lock()
	var tell []func()
	if set(&m.known) {
		for _, fn := range m.watchers {
			tell = append(tell, fn)
		}
	}
	m.mu.Unlock()
	for _, fn := range tell {
		fn()
	}
}

// acked is a cursor that a region has.
type acked struct {
	id crdt.OriginID
	p  uint8
	f  uint64
}

// acks takes cursors that a region has under an incarnation, and tells of them once.
func (m *matrix) acks(region string, epoch uint64, all []acked) {
	m.heard(func(k *feeds.Matrix) (grew bool) {
		for _, a := range all {
			grew = k.Ack(region, epoch, a.id, a.p, a.f) || grew
		}
		return grew
	})
}

// heads takes a region's row for an origin, as far as it is of some partitions, a bit each.
func (m *matrix) heads(region string, epoch, parts uint64, id crdt.OriginID, fs []uint64) {
	m.heard(func(k *feeds.Matrix) bool { return k.Heads(region, epoch, parts, id, fs) })
}

// rows takes rows that other nodes of the region have heard.
func (m *matrix) rows(all []*peerpb.Row, self string) {
	m.heard(func(k *feeds.Matrix) (grew bool) {
		for _, r := range all {
			if r.Region != self {
				more, err := k.Hear(r)
				grew = grew || more && err == nil
			}
		}
		return grew
	})
}

// holders counts the regions that are known to have a dot.
func (m *matrix) holders(dot crdt.Dot, self string, ev crdt.Evictions) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.Holders(dot, self, ev)
}

func (m *matrix) watch(fn func()) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	n := m.next
	m.watchers[n] = fn
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, n)
	}
}

// Status is replication as an operator sees it.
type Status struct {
	Regions []wire.RegionInfo `json:"regions"`
	Links   []string          `json:"links"` // regions whose feeds are followed now
	// Elsewhere is how far other regions have come: region, origin id in hex, cursor by partition.
	Elsewhere map[string]map[string]feeds.Row `json:"elsewhere"`
	// Ways is how the ways to the leaders of other regions are, by region/node, as measured from here.
	Ways map[string]Way `json:"ways"`
	// Waited are the partitions that clients of the region wait for, or did in the last minute: they come first.
	Waited []int `json:"waited"`
}

// Status returns what is known of other regions now.
func (l *Links) Status() Status {
	s := Status{Regions: l.cfg.Pool.Regions(), Links: []string{}, Elsewhere: map[string]map[string]feeds.Row{}}
	l.mu.Lock()
	for n := range l.links {
		if l.up(n.region, 0) && !slices.Contains(s.Links, n.region) {
			s.Links = append(s.Links, n.region)
		}
	}
	l.mu.Unlock()
	slices.Sort(s.Links)
	s.Ways = l.spread.ways(time.Now())
	s.Waited = l.cfg.Pool.waits.list(time.Now())
	m := l.cfg.Pool.matrix
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.Rows(func(region string, _ *feeds.Row, id crdt.OriginID, r feeds.Row) {
		if s.Elsewhere[region] == nil {
			s.Elsewhere[region] = map[string]feeds.Row{}
		}
		s.Elsewhere[region][fmt.Sprintf("%08x", uint32(id))] = r
	})
	return s
}
