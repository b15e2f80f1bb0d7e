package feeds

import (
	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// Row is how far one region has applied one origin's feeds, by partition.
type Row [crdt.Partitions]uint64

// Matrix is what is where: every other region's cursors as last heard, from itself or from others who heard it. What a region
// says belongs to the incarnation (epoch) that it has then, of each partition: while that lasts, its cursors only grow, so
// that the greatest that was heard is true whatever way it came. With a greater epoch all that was heard before is void: the
// region may have lost its disks. The zero value knows nothing.
type Matrix struct {
	regions map[string]*holder
	begun   [crdt.Partitions]begun
}

// holder is what one region has.
type holder struct {
	epochs [crdt.Partitions]uint64 // 0: it has not said
	rows   map[crdt.OriginID]*Row
	// evicted are the regions that it knows to have been given up
	evicted crdt.Evictions
	// named are its incarnations as it says, if it was given up itself
	named []crdt.Origin
	level uint32 // feature level, as it says itself
}

func (m *Matrix) holder(region string) *holder {
	if m.regions == nil {
		m.regions = map[string]*holder{}
	}
	h := m.regions[region]
	if h == nil {
		h = &holder{rows: map[crdt.OriginID]*Row{}}
		m.regions[region] = h
	}
	return h
}

// begin makes an epoch the one of a partition, unless a later one is known: then what is said under it is void.
func (h *holder) begin(epoch uint64, p int) (current bool) {
	if epoch > h.epochs[p] {
		for _, r := range h.rows {
			r[p] = 0
		}
		h.epochs[p] = epoch
	}
	return epoch == h.epochs[p] || epoch == 0 // 0: a version that does not say
}

func (h *holder) row(id crdt.OriginID) *Row {
	r := h.rows[id]
	if r == nil {
		r = &Row{}
		h.rows[id] = r
	}
	return r
}

// Ack takes one cursor of a region, and reports whether it grew.
func (m *Matrix) Ack(region string, epoch uint64, id crdt.OriginID, p uint8, f uint64) (grew bool) {
	h := m.holder(region)
	if !h.begin(epoch, int(p)) {
		return false
	}
	r := h.row(id)
	grew = f > r[p]
	r[p] = max(r[p], f)
	return grew
}

// Heads takes a region's row for an origin, as far as it is of some partitions, a bit each, and reports whether any cursor grew.
func (m *Matrix) Heads(region string, epoch, parts uint64, id crdt.OriginID, fs []uint64) (grew bool) {
	for p, f := range fs {
		if p < crdt.Partitions && parts&(1<<p) != 0 {
			grew = m.Ack(region, epoch, id, uint8(p), f) || grew
		}
	}
	return grew
}

// Holders counts the regions other than self that are known to have a dot. The dot's home has what it issued, unless it has lost
// its disks since: under a later incarnation only what it says counts. What a region had that was given up since, nobody counts on.
func (m *Matrix) Holders(dot crdt.Dot, self string, ev crdt.Evictions) int {
	n := 0
	home := dot.Origin.Region()
	if home != self && m.counts(home, dot.Partition, ev) && m.keeps(home, dot, ev) {
		n++
	}
	for region := range m.regions {
		if region != self && region != home && m.counts(region, dot.Partition, ev) && m.has(region, dot) {
			n++
		}
	}
	return n
}

func (m *Matrix) has(region string, dot crdt.Dot) bool {
	r := m.regions[region].rows[dot.ID]
	return r != nil && r[dot.Partition] >= dot.F
}

func (m *Matrix) keeps(home string, dot crdt.Dot, ev crdt.Evictions) bool {
	h := m.regions[home]
	if ev.Void(home, dot.Origin.Incarnation()) {
		return h != nil && m.has(home, dot)
	}
	return h == nil || h.epochs[dot.Partition] <= dot.Origin.Incarnation() || m.has(home, dot)
}

// Acked is up to where all of some regions have an origin's feed; of no regions, nothing is.
func (m *Matrix) Acked(regions []string, id crdt.OriginID, p uint8, ev crdt.Evictions) (f uint64) {
	for i, region := range regions {
		have := uint64(0)
		if h := m.regions[region]; h != nil && h.rows[id] != nil && m.counts(region, p, ev) {
			have = h.rows[id][p]
		}
		if i == 0 || have < f {
			f = have
		}
	}
	return f
}

// Rows visits everything that is known, in no order. A region's epochs are by partition.
func (m *Matrix) Rows(visit func(region string, epochs *Row, id crdt.OriginID, r Row)) {
	for region, h := range m.regions {
		epochs := Row(h.epochs)
		for id, r := range h.rows {
			visit(region, &epochs, id, *r)
		}
	}
}

// Each visits what a region was heard to hold.
func (m *Matrix) Each(region string, visit func(id crdt.OriginID, p uint8, f uint64)) {
	if h := m.regions[region]; h != nil {
		for id, r := range h.rows {
			for p, f := range r {
				visit(id, uint8(p), f)
			}
		}
	}
}

// Reach weighs how many other regions have something against how many must: one, if any counts. If none does, it matters whether that is in doubt.
func Reach(holders, peers int, doubts func() bool) wire.Reach {
	return wire.Reach{Regions: holders, Safe: holders > 0 || peers == 0 && !doubts()}
}
