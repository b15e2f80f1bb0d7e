package feeds

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/roamsync/roam/crdt"
)

// Home is the one of some regions that sees to a session when nobody uses it any more: whose name, with the session's, has the greatest hash.
// Regions that know of the same regions agree on it, each has its share, and when one comes or goes only its share moves.
func Home(session string, regions []string) string {
	if len(regions) == 0 {
		return ""
	}
	return slices.MaxFunc(regions, func(a, b string) int {
		return cmp.Or(cmp.Compare(weight(session, a), weight(session, b)), cmp.Compare(a, b))
	})
}

func weight(session, region string) uint64 { return xxhash.Sum64String(region + "\x00" + session) }

// CaughtUp reports whether all of some regions have said that they have what a vector covers, in one partition.
func (m *Matrix) CaughtUp(regions []string, p uint8, v crdt.Vector, ev crdt.Evictions) bool {
	if len(regions) == 0 {
		return true
	}
	for id, f := range v {
		if m.Acked(regions, id, p, ev) < f {
			return false
		}
	}
	return true
}

// Stable is what the own region and all of some others have of a partition, if the own one has all that they were heard to have, and each says
// that it is of a feature level at least: then whatever may still come was numbered by who had that, and was of the level. Once a region was given up
// that cannot be said: it may be back, and number before it has anything. heard says whose heads come just now.
func (m *Matrix) Stable(local Local, others []string, p uint8, level uint32, heard func(region string) bool) (v crdt.Vector, ok bool) {
	ev := local.Evictions(p)
	if len(ev) > 0 {
		return nil, false
	}
	own := local.Cursors(p)
	v = own.Clone()
	for _, region := range others {
		h := m.regions[region]
		if !heard(region) || h == nil || h.level < level || h.epochs[p] == 0 || !m.counts(region, p, ev) {
			return nil, false
		}
		for id, r := range h.rows {
			if r[p] > own[id] {
				return nil, false
			}
		}
		for id := range v {
			have := uint64(0)
			if r := h.rows[id]; r != nil {
				have = r[p]
			}
			v[id] = min(v[id], have)
		}
	}
	return v, true
}
