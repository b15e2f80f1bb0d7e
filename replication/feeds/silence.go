package feeds

import (
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
)

// Silence is for how long other regions have not been heard by who follows their feeds: on the streams that carry them, and by records
// of theirs that came some other way. It says nothing of why. The zero value of a region is not silent: it has to be followed first.
type Silence struct {
	local interface {
		Origins() []crdt.Origin
		Cursors(partition uint8) crdt.Vector
	}
	lanes map[silentLane]*quiet
}

// silentLane is some partitions of a region, a bit each, that are followed together.
type silentLane struct {
	region     string
	partitions uint64
}

// quiet is when a lane was heard last, and how many ops of the region were here then.
type quiet struct {
	heard time.Time
	ops   uint64
}

// stillAfter is how long nothing is heard on a stream before it is looked for what came some other way.
const stillAfter = time.Second

// NewSilence is for a node's links. What is here of others is read from local.
func NewSilence(local interface {
	Origins() []crdt.Origin
	Cursors(partition uint8) crdt.Vector
}) *Silence {
	return &Silence{local: local, lanes: map[silentLane]*quiet{}}
}

// Follow notes that some partitions of a region are followed from now on, if they are not yet.
func (s *Silence) Follow(region string, partitions uint64, now time.Time) {
	if k := (silentLane{region, partitions}); s.lanes[k] == nil {
		s.lanes[k] = &quiet{heard: now, ops: s.ops(k)}
	}
}

// Leave ends that: another node follows them, or nobody does.
func (s *Silence) Leave(region string, partitions uint64) {
	delete(s.lanes, silentLane{region, partitions})
}

// Heard notes that a region has said something of partitions that are followed.
func (s *Silence) Heard(region string, partitions uint64, now time.Time) {
	if q := s.lanes[silentLane{region, partitions}]; q != nil {
		q.heard, q.ops = now, s.ops(silentLane{region, partitions})
	}
}

// Gone returns the regions that were not heard for so long, of some of these partitions. It is to be asked once a second or so: what comes
// by way of a third region counts from when it is asked.
func (s *Silence) Gone(partitions uint64, after time.Duration, now time.Time) []string {
	gone := map[string]bool{}
	for k, q := range s.lanes {
		if k.partitions&partitions == 0 || now.Sub(q.heard) < stillAfter {
			continue
		}
		if ops := s.ops(k); ops != q.ops {
			q.heard, q.ops = now, ops
		}
		if now.Sub(q.heard) >= after {
			gone[k.region] = true
		}
	}
	return slices.Sorted(maps.Keys(gone))
}

// ops counts what a region has issued, as far as it is here.
func (s *Silence) ops(k silentLane) (n uint64) {
	for _, o := range s.local.Origins() {
		if o.Region() != k.region {
			continue
		}
		for id, rest := o.ID(), k.partitions; rest != 0; rest &= rest - 1 {
			n += s.local.Cursors(uint8(bits.TrailingZeros64(rest)))[id]
		}
	}
	return n
}
