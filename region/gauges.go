package region

import (
	"strconv"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// gauges are looked up when they are asked for.
type gauges struct{ r *Region }

var (
	waitingDesc = prometheus.NewDesc("roam_region_waiting_proposals",
		"Proposals that wait for their turn; Submit refuses at 8192 in one group.", []string{"group"}, nil)
	leaderDesc  = prometheus.NewDesc("roam_region_leader", "1 on the node that leads the group.", []string{"group"}, nil)
	appliedDesc = prometheus.NewDesc("roam_region_applied_index", "Last entry of the group's log that is applied.", []string{"group"}, nil)
)

// Describe implements prometheus.Collector.
func (gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{waitingDesc, leaderDesc, appliedDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector. There are as many values as groups, at most 16.
func (c gauges) Collect(to chan<- prometheus.Metric) {
	for _, g := range c.r.all() {
		leads := 0.0
		if g.raft.State() == raft.Leader {
			leads = 1
		}
		for _, v := range []struct {
			d *prometheus.Desc
			v float64
		}{{waitingDesc, float64(len(g.queue))}, {leaderDesc, leads}, {appliedDesc, float64(g.fsm.Applied())}} {
			to <- prometheus.MustNewConstMetric(v.d, prometheus.GaugeValue, v.v, strconv.Itoa(g.n))
		}
	}
}

// observe counts what one entry holds.
func (g *group) observe(batch []*proposal) {
	all := 0
	for _, p := range batch {
		ops, _ := p.cmd.Size()
		all += ops
	}
	g.r.metrics.batch.Observe(float64(len(batch)))
	g.r.metrics.ops.Observe(float64(all))
}
