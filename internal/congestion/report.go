package congestion

import (
	"cmp"
	"net"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Way is how connections with a region's nodes share the network on the way there.
type Way struct {
	Region      string  `json:"region"` // or the address of a node of which membership does not know the region
	Name        string  `json:"congestion"`
	Connections int     `json:"connections"`
	Lost        float64 `json:"lost"` // share of what these sent lately that had to be sent again
}

// share of segments that were lost lately.
func (l loss) share() float64 {
	if l.sent < 1 {
		return 0
	}
	return min(max(l.lost/l.sent, 0), 1)
}

// region is who is at the other end, as far as that is known.
func (c *Control) region(k *conn) string {
	addr := k.RemoteAddr().String()
	if c.cfg.Region != nil {
		if name := c.cfg.Region(addr); name != "" {
			return name
		}
	}
	host, _, _ := net.SplitHostPort(addr)
	return host
}

// Ways are the connections that there are, by region and congestion control.
func (c *Control) Ways() []Way {
	type kind struct{ region, name string }
	ways, all := map[kind]int{}, map[kind]loss{}
	for _, k := range c.conns() {
		s := k.seen.Load()
		if s == nil {
			continue
		}
		at := kind{c.region(k), s.name}
		ways[at]++
		l := all[at]
		all[at] = loss{sent: l.sent + s.loss.sent, lost: l.lost + s.loss.lost}
	}
	out := make([]Way, 0, len(ways))
	for at, n := range ways {
		out = append(out, Way{at.region, at.name, n, all[at].share()})
	}
	slices.SortFunc(out, func(a, b Way) int { return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Name, b.Name)) })
	return out
}

var (
	connections = prometheus.NewDesc("roam_peer_connections",
		"TCP connections with a region's nodes, by the congestion control of what is sent there.", []string{"region", "congestion"}, nil)
	lossRatio = prometheus.NewDesc("roam_peer_loss_ratio",
		"Share of the segments sent to a region's nodes in the last half minute that were lost, by the congestion control that they were sent under.",
		[]string{"region", "congestion"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Control) Describe(to chan<- *prometheus.Desc) {
	to <- connections
	to <- lossRatio
}

// Collect implements prometheus.Collector.
func (c *Control) Collect(to chan<- prometheus.Metric) {
	for _, w := range c.Ways() {
		to <- prometheus.MustNewConstMetric(connections, prometheus.GaugeValue, float64(w.Connections), w.Region, w.Name)
		to <- prometheus.MustNewConstMetric(lossRatio, prometheus.GaugeValue, w.Lost, w.Region, w.Name)
	}
}
