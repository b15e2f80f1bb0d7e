package feeds

import (
	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// Row is how far one region has applied one origin's feeds, by partition.
type Row [crdt.Partitions]uint64

// Matrix is what is where: every other region's cursors as last heard. They only grow. The zero value knows nothing.
type Matrix struct {
	rows map[string]map[crdt.OriginID]*Row
}

func (m *Matrix) row(region string, id crdt.OriginID) *Row {
	if m.rows == nil {
		m.rows = map[string]map[crdt.OriginID]*Row{}
	}
	origins := m.rows[region]
	if origins == nil {
		origins = map[crdt.OriginID]*Row{}
		m.rows[region] = origins
	}
	r := origins[id]
	if r == nil {
		r = &Row{}
		origins[id] = r
	}
	return r
}

// Ack takes one cursor of a region, and reports whether it grew.
func (m *Matrix) Ack(region string, id crdt.OriginID, p uint8, f uint64) (grew bool) {
	r := m.row(region, id)
	grew = f > r[p]
	r[p] = max(r[p], f)
	return grew
}

// Heads takes a region's whole row for an origin, and reports whether any cursor grew.
func (m *Matrix) Heads(region string, id crdt.OriginID, fs []uint64) (grew bool) {
	r := m.row(region, id)
	for p, f := range fs {
		if p < len(r) && f > r[p] {
			r[p], grew = f, true
		}
	}
	return grew
}

// Holders counts the regions other than self that are known to have a dot. The dot's home has what it issued.
func (m *Matrix) Holders(dot crdt.Dot, self string) int {
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

// Acked is up to where all of some regions have an origin's feed; of no regions, nothing is.
func (m *Matrix) Acked(regions []string, id crdt.OriginID, p uint8) (f uint64) {
	for i, region := range regions {
		have := uint64(0)
		if r := m.rows[region][id]; r != nil {
			have = r[p]
		}
		if i == 0 || have < f {
			f = have
		}
	}
	return f
}

// Rows visits everything that is known, in no order.
func (m *Matrix) Rows(visit func(region string, id crdt.OriginID, r Row)) {
	for region, origins := range m.rows {
		for id, r := range origins {
			visit(region, id, *r)
		}
	}
}

// Each visits what a region was heard to hold.
func (m *Matrix) Each(region string, visit func(id crdt.OriginID, p uint8, f uint64)) {
	for id, r := range m.rows[region] {
		for p, f := range r {
			visit(id, uint8(p), f)
		}
	}
}

// Reach weighs how many other regions have something against how many must.
func Reach(holders, peers int) wire.Reach {
	return wire.Reach{Regions: holders, Safe: holders >= min(1, peers)}
}
