package replication

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
)

// TestNothingIsSafeWhileAnEvictedRegionMayBeBack: a region that knows of no other one but such as were evicted calls safe what it has itself, but not when it was just started or
// has just begun anew: its disks may have forgotten that one is back. Who waits for that is told when it is not in doubt any more.
func TestNothingIsSafeWhileAnEvictedRegionMayBeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &gaveUp{ev: crdt.Evictions{"shanghai": {Bound: 2}}}
		p := &Pool{cfg: PoolConfig{Region: "beijing", Roster: r}, matrix: newMatrix(), met: map[string]struct{}{"shanghai": {}}}
		dot, told := crdt.Dot{Origin: "beijing.5", ID: 1, Partition: 7, F: 9}, 0
		defer p.WatchReach(func() { told++ })()
		safe := func(want bool, why string) {
			t.Helper()
			if got := p.Reach(dot); got.Safe != want {
				t.Errorf("%s: %+v", why, got)
			}
		}
		p.recount()
		safe(false, "nobody else holds it, and shanghai has had no time to say that it is back")
		time.Sleep(time.Minute)
		was := told
		p.recount()
		safe(true, "shanghai has said nothing for a minute, and who has the op is alone")
		if told == was {
			t.Error("who waited was not told")
		}
		p.matrix.acks("shanghai", 3, []acked{{2, 7, 1}})
		safe(false, "shanghai was heard under a later incarnation, and does not hold it")
		r.ev = crdt.Evictions{"shanghai": {Bound: 2, Back: 3}}
		safe(false, "shanghai is back, and does not hold it")
		p.matrix.acks("shanghai", 3, []acked{{1, 7, 9}})
		safe(true, "shanghai is back, and holds it")
	})
}

// TestSafeAfterAnEviction: an operator's eviction is no reason to doubt, for nodes at which nobody has asked before either.
func TestSafeAfterAnEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &gaveUp{ev: crdt.Evictions{}}
		p := &Pool{cfg: PoolConfig{Region: "beijing", Roster: r}, matrix: newMatrix(), met: map[string]struct{}{"shanghai": {}}}
		p.recount()
		time.Sleep(time.Minute)
		if p.Reach(crdt.Dot{Origin: "beijing.5", ID: 1, Partition: 7, F: 9}).Safe {
			t.Error("shanghai counts, and does not hold it")
		}
		r.ev = crdt.Evictions{"shanghai": {Bound: 2}}
		if !p.Reach(crdt.Dot{Origin: "beijing.5", ID: 1, Partition: 7, F: 9}).Safe {
			t.Error("the region is alone, and knows that")
		}
	})
}

// TestNothingIsNowhereByWhatWasSaidBefore: a node of several may know what others hold of what its region lost only as long ago as who lost it had told it.
func TestNothingIsNowhereByWhatWasSaidBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &renewed{self: "beijing.3"}
		p := &Pool{cfg: PoolConfig{Region: "beijing", Roster: r}, matrix: newMatrix(), met: map[string]struct{}{"shanghai": {}}}
		p.recount()
		time.Sleep(time.Second)
		p.matrix.told.note("shanghai", feeds.All, time.Now())
		if _, all := p.Held(7); !all {
			t.Error("shanghai was heard just now")
		}
		r.self = "beijing.5"
		if _, all := p.Held(7); all {
			t.Error("shanghai was not heard since the region has begun anew")
		}
		time.Sleep(time.Second)
		p.matrix.told.note("shanghai", feeds.All, time.Now())
		if _, all := p.Held(7); !all {
			t.Error("shanghai was heard since")
		}
	})
}

// renewed is a roster by which the region has begun anew.
type renewed struct {
	gaveUp
	self crdt.Origin
}

func (r *renewed) Self(uint8) crdt.Origin { return r.self }
