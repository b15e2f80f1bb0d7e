package replication

import (
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire/peerpb"
)

// hearing is when a region's heads of each partition came last.
type hearing map[string]*[crdt.Partitions]time.Time

func (h hearing) note(region string, parts uint64, now time.Time) {
	at := h[region]
	if at == nil {
		at = &[crdt.Partitions]time.Time{}
		h[region] = at
	}
	for p := range at {
		if parts&(1<<p) != 0 {
			at[p] = now
		}
	}
}

// last is when a region's heads of a partition came last; zero: never.
func (h hearing) last(region string, p uint8) (at time.Time) {
	if all := h[region]; all != nil {
		at = all[p]
	}
	return at
}

// lately reports whether a region's heads of a partition come. It is silent for a second at most, and a leader tells the other nodes once a second.
func (h hearing) lately(region string, p uint8, now time.Time) bool {
	return now.Sub(h.last(region, p)) < 2*silentAfter
}

// listen notes that heads of some partitions, a bit each, have come over a stream of this node.
func (m *matrix) listen(region string, parts uint64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.direct.note(region, parts, now)
}

// listenTo notes what another node of the region says of its streams.
func (m *matrix) listenTo(all []*peerpb.Heard, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range all {
		if crdt.ValidRegion(h.Region) {
			m.told.note(h.Region, h.Parts, now)
		}
	}
}

// hearing is which regions this node hears over streams of its own.
func (m *matrix) hearing(now time.Time) (all []*peerpb.Heard) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for region := range m.direct {
		h := &peerpb.Heard{Region: region}
		for p := range uint8(crdt.Partitions) {
			if m.direct.lately(region, p, now) {
				h.Parts |= 1 << p
			}
		}
		if h.Parts != 0 {
			all = append(all, h)
		}
	}
	return all
}

// last is when a region's heads of a partition came last, to this node or to one that has said so.
func (m *matrix) last(region string, p uint8) time.Time {
	direct, told := m.direct.last(region, p), m.told.last(region, p)
	if told.After(direct) {
		return told
	}
	return direct
}

// Held is how far any other region holds each origin's feed of a partition, and whether that is all there is, since
// each of them was heard just now, after the own one had lost something at all, and it is not in doubt which they are.
func (p *Pool) Held(partition uint8) (most crdt.Vector, all bool) {
	regions, all := p.peerRegions()
	now, m, r := time.Now(), p.matrix, p.cfg.Roster
	self, ev := r.Self(partition), r.Evictions(partition)
	m.mu.Lock()
	defer m.mu.Unlock()
	all = !m.known.Doubts(p.cfg.Region, self, partition, ev, now) && m.known.Fresh(regions, self, partition, now, m.last) && all
	for _, region := range regions {
		all = all && now.Sub(m.last(region, partition)) < 2*silentAfter
	}
	return m.known.Most(regions, partition, ev), all
}

// doubted are the partitions, a bit each, in which it is in doubt who was given up.
func (m *matrix) doubted(home string, r Roster, now time.Time) (parts uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range uint8(crdt.Partitions) {
		if m.known.Doubts(home, r.Self(p), p, r.Evictions(p), now) {
			parts |= 1 << p
		}
	}
	return parts
}

// doubts reports whether it is in doubt who was given up, in a partition.
func (p *Pool) doubts(partition uint8) bool {
	m, r := p.matrix, p.cfg.Roster
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.Doubts(p.cfg.Region, r.Self(partition), partition, r.Evictions(partition), time.Now())
}
