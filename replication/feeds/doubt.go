package feeds

import (
	"time"

	"github.com/roamsync/roam/crdt"
)

// doubtFor is for how long a region that was given up may still say that it is back: so long it takes at most until its heads come, if they can.
const doubtFor = 10 * time.Second

// begun is since when a process knows under what its region numbers in a partition.
type begun struct {
	self  crdt.Origin
	since time.Time
}

// Doubts reports whether a region that counts as given up may be back all the same: disks that went back have forgotten that it is, and it may hold what they
// lost. Disks that did are gone on with under a new incarnation, and by processes that were started again, mostly: so each of these gives such a region some
// time to say so. Who was heard under a later incarnation than was given up is back, which is only not committed yet.
func (m *Matrix) Doubts(home string, self crdt.Origin, p uint8, ev crdt.Evictions, now time.Time) bool {
	since := m.since(self, p, now)
	for region := range ev {
		if region != home && ev.Out(region) && (now.Sub(since) < doubtFor || m.back(region, p, ev)) {
			return true
		}
	}
	return false
}

// since is since when the process knows under what its region numbers in a partition.
func (m *Matrix) since(self crdt.Origin, p uint8, now time.Time) time.Time {
	b := &m.begun[p]
	if b.self != self || b.since.IsZero() {
		*b = begun{self, now}
	}
	return b.since
}

// LastHeard says when a region's heads of a partition came last, over a stream; zero: they never did.
type LastHeard func(region string, p uint8) time.Time

// Fresh reports whether all of some regions have said what they hold of a partition since the own one numbers as it does. A node that was not started again may know of
// what its region lost only as long ago as who lost it had told it, and take that for all that the others hold. To a region that holds something of the present
// incarnation there may be no way but by a third one, which has told of that, and so of all before.
func (m *Matrix) Fresh(regions []string, self crdt.Origin, p uint8, now time.Time, heard LastHeard) bool {
	since, first := m.since(self, p, now), crdt.Dot{ID: self.ID(), Partition: p, F: 1}
	for _, region := range regions {
		if !heard(region, p).After(since) && (self == "" || m.regions[region] == nil || !m.has(region, first)) {
			return false
		}
	}
	return true
}
