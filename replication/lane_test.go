package replication

import (
	"math/bits"
	"slices"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roamsync/roam/replication/feeds"
)

// TestLanesSplit: whatever the numbers of groups on both sides, the lanes of a group are its partitions, once each, and none
// is of two groups.
func TestLanesSplit(t *testing.T) {
	for _, here := range []int{1, 2, 4, 8, 16} {
		for _, there := range []int{1, 2, 4, 8, 16} {
			for _, own := range (lane{"shanghai", feeds.All}).split(here) {
				all := uint64(0)
				for _, n := range own.split(there) {
					if all&n.partitions != 0 || bits.OnesCount64(n.partitions) != 64/max(here, there) || n.region != "shanghai" {
						t.Errorf("%d and %d groups: lane %016x", here, there, n.partitions)
					}
					all |= n.partitions
				}
				if all != own.partitions {
					t.Errorf("%d and %d groups: lanes of %016x, of a group with %016x", here, there, all, own.partitions)
				}
			}
		}
	}
	whole := lane{"shanghai", feeds.All}
	for _, groups := range []int{0, -1, 3, 5, 63, 65, 1 << 40} {
		if got := whole.split(groups); !slices.Equal(got, []lane{whole}) {
			t.Errorf("%d groups, as no region has: %v", groups, got)
		}
	}
	if whole.name() != "0-63" || (lane{"shanghai", 0xf0}).name() != "4-7" {
		t.Error(whole.name())
	}
}

func TestAskedPartitions(t *testing.T) {
	for v, want := range map[string]uint64{"": feeds.All, "00000000000000f0": 0xf0} {
		md := metadata.MD{}
		if v != "" {
			md.Set(partsLabel, v)
		}
		if got, err := asked(md); got != want || err != nil {
			t.Errorf("%q: %016x, %v", v, got, err)
		}
	}
	for _, v := range []string{"0", "x", "-1", "10000000000000000"} {
		if got, err := asked(metadata.Pairs(partsLabel, v)); err == nil {
			t.Errorf("%q is taken for %016x", v, got)
		}
	}
}

// TestRegionIsUp: a region is up for some partitions when links have all of them, and for the gauge when all links that
// are wanted are there. A node that wants none has no gauge.
func TestRegionIsUp(t *testing.T) {
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "up"}, []string{"region"})
	low, high := lane{"shanghai", 0xffff}, lane{"shanghai", 0xffff << 16}
	l := &Links{links: map[lane]*link{}, metrics: &linkMetrics{up: gauge}, lag: newLag("", nil, nil, nil, nil), quiet: feeds.NewSilence(nothing{})}
	l.want(low)
	l.want(high)
	k := &link{l: l, lane: low}
	l.links[low] = k
	l.show("shanghai")
	if !l.up("shanghai", 0xff) || l.up("shanghai", 0x1ffff) || l.up("beijing", 1) || testutil.ToFloat64(gauge.WithLabelValues("shanghai")) != 0 {
		t.Error("one link of two")
	}
	l.links[high] = &link{l: l, lane: high}
	l.show("shanghai")
	if !l.up("shanghai", 0x1ffff) || testutil.ToFloat64(gauge.WithLabelValues("shanghai")) != 1 {
		t.Error("both links")
	}
	l.unlink(k)
	if l.up("shanghai", 0xff) || testutil.ToFloat64(gauge.WithLabelValues("shanghai")) != 0 {
		t.Error("one link has ended")
	}
	l.unwant(low)
	l.unwant(high)
	if n := testutil.CollectAndCount(gauge); n != 0 {
		t.Errorf("%d gauges of a node that follows nothing", n)
	}
}
