package region

import (
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// showGauges registers what is looked up when it is asked for.
func (r *Region) showGauges() {
	r.cfg.Metrics.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "roam_region_waiting_proposals", Help: "Proposals that wait for their turn; Submit refuses at 8192.",
		}, func() float64 { return float64(len(r.queue)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "roam_region_leader", Help: "1 on the node that leads its region.",
		}, func() float64 {
			if r.raft != nil && r.raft.State() == raft.Leader {
				return 1
			}
			return 0
		}))
}

// observe counts what one entry holds.
func (r *Region) observe(batch []*proposal) {
	all := 0
	for _, p := range batch {
		ops, _ := p.cmd.Size()
		all += ops
	}
	r.metrics.batch.Observe(float64(len(batch)))
	r.metrics.ops.Observe(float64(all))
}
