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
	b := &m.begun[p]
	if b.self != self || b.since.IsZero() {
		*b = begun{self, now}
	}
	for region := range ev {
		if region != home && ev.Out(region) && (now.Sub(b.since) < doubtFor || m.back(region, p, ev)) {
			return true
		}
	}
	return false
}
