package replication

import (
	"fmt"
	"slices"
	"sync"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// row is how far one region has applied one origin's feeds, by partition.
type row [crdt.Partitions]uint64

// matrix is what is where: every other region's cursors as last heard. They only grow.
type matrix struct {
	mu       sync.Mutex
	rows     map[string]map[crdt.OriginID]*row
	watchers map[int]func()
	next     int
}

func newMatrix() *matrix {
	return &matrix{rows: map[string]map[crdt.OriginID]*row{}, watchers: map[int]func(){}}
}

// heard takes cursors of a region, and tells the watchers if any grew.
func (m *matrix) heard(region string, id crdt.OriginID, set func(*row) bool) {
	m.mu.Lock()
	origins := m.rows[region]
	if origins == nil {
		origins = map[crdt.OriginID]*row{}
		m.rows[region] = origins
	}
	r := origins[id]
	if r == nil {
		r = &row{}
		origins[id] = r
	}
	grew := set(r)
	var tell []func()
	if grew {
		for _, fn := range m.watchers {
			tell = append(tell, fn)
		}
	}
	m.mu.Unlock()
	for _, fn := range tell {
		fn()
	}
}

// ack takes one cursor.
func (m *matrix) ack(region string, id crdt.OriginID, p uint8, f uint64) {
	m.heard(region, id, func(r *row) bool {
		grew := f > r[p]
		r[p] = max(r[p], f)
		return grew
	})
}

// heads takes a region's whole row for an origin.
func (m *matrix) heads(region string, id crdt.OriginID, fs []uint64) {
	m.heard(region, id, func(r *row) (grew bool) {
		for p, f := range fs {
			if p < len(r) && f > r[p] {
				r[p], grew = f, true
			}
		}
		return grew
	})
}

// holders counts the regions that are known to have a dot. The dot's home has what it issued.
func (m *matrix) holders(dot crdt.Dot, self string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	home := dot.Origin.Region()
	if home != self {
		n++
	}
	for region, origins := range m.rows {
		if r := origins[dot.ID]; r != nil && region != self && region != home && r[dot.Partition] >= dot.F {
			n++
		}
	}
	return n
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
	Elsewhere map[string]map[string]row `json:"elsewhere"`
}

// Status returns what is known of other regions now.
func (l *Links) Status() Status {
	s := Status{Regions: l.cfg.Pool.Regions(), Links: []string{}, Elsewhere: map[string]map[string]row{}}
	l.mu.Lock()
	for r := range l.links {
		s.Links = append(s.Links, r)
	}
	l.mu.Unlock()
	slices.Sort(s.Links)
	m := l.cfg.Pool.matrix
	m.mu.Lock()
	defer m.mu.Unlock()
	for region, origins := range m.rows {
		s.Elsewhere[region] = map[string]row{}
		for id, r := range origins {
			s.Elsewhere[region][fmt.Sprintf("%08x", uint32(id))] = *r
		}
	}
	return s
}

// reach weighs how many other regions have a dot against how many must.
func reach(holders, peers int) wire.Reach {
	return wire.Reach{Regions: holders, Safe: holders >= min(1, peers)}
}
