package replication

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
)

// TestNothingIsNowhereWhileAnEvictedRegionMayBeBack: a node that has just begun anew with a region that counts as given up gives it time to say that it is back.
func TestNothingIsNowhereWhileAnEvictedRegionMayBeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &gaveUp{ev: crdt.Evictions{"shanghai": {Bound: 2}}}
		p := &Pool{cfg: PoolConfig{Region: "beijing", Roster: r}, matrix: newMatrix(), met: map[string]struct{}{"shanghai": {}}}
		if _, all := p.Held(7); all {
			t.Error("shanghai has had no time to say that it is back, and what is not here is called nowhere")
		}
		time.Sleep(time.Minute)
		if _, all := p.Held(7); !all {
			t.Error("shanghai has said nothing for a minute, and is waited for")
		}
		p.matrix.acks("shanghai", 3, []acked{{1, 7, 9}})
		if _, all := p.Held(7); all {
			t.Error("shanghai was heard under a later incarnation, and what it holds is called nowhere")
		}
		r.ev = crdt.Evictions{"shanghai": {Bound: 2, Back: 3}}
		p.matrix.listen("shanghai", feeds.All, time.Now())
		if most, all := p.Held(7); !all || most[1] != 9 {
			t.Errorf("shanghai is back and holds 9: %v, and that is all: %v", most, all)
		}
	})
}
