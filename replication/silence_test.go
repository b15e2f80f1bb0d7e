package replication

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
)

// nothing is a region that holds nothing.
type nothing struct{}

func (nothing) Origins() []crdt.Origin    { return nil }
func (nothing) Cursors(uint8) crdt.Vector { return nil }

// TestGone: a region that was met once counts as silent from when this node leads, whether membership still knows of it or not; one whose
// lane is split counts by its new lanes.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after, parts = 30 * time.Second, uint64(0xffff)
		l := &Links{
			cfg:   LinksConfig{Pool: &Pool{cfg: PoolConfig{Region: "beijing"}, met: map[string]struct{}{"shanghai": {}, "chengdu": {}, "beijing": {}}}},
			links: map[lane]*link{}, lag: newLag("", nil, nil, nil, nil), quiet: feeds.NewSilence(nothing{}),
			metrics: &linkMetrics{up: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "up"}, []string{"region"})},
		}
		gone := func(want ...string) {
			t.Helper()
			if got := l.Gone(parts, after); !slices.Equal(got, want) {
				t.Errorf("%v are gone, not %v", got, want)
			}
		}
		l.awaitMet(parts, map[string]bool{})
		time.Sleep(20 * time.Second)
		whole := lane{"shanghai", parts}
		l.want(whole) // membership knows somebody of it now
		l.awaitMet(parts, map[string]bool{"shanghai": true})
		time.Sleep(9 * time.Second)
		gone()
		time.Sleep(time.Second)
		gone("chengdu", "shanghai")
		l.unwant(whole)
		for _, n := range whole.split(8) {
			l.want(n)
		}
		l.awaitMet(parts, map[string]bool{"shanghai": true})
		gone("chengdu")
		for range 6 {
			time.Sleep(10 * time.Second)
			for _, n := range whole.split(8) {
				l.heard(n)
			}
		}
		gone("chengdu")
		l.leave(parts)
		gone()
	})
}
