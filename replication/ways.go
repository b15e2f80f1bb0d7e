package replication

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Way is how the way to a leader of another region is, measured on datagrams: about one in two seconds while nothing happens, and more
// while ops are committed.
type Way struct {
	RTT      float64 `json:"rttMs"`  // smoothed; 0: not measured yet
	LossTo   float64 `json:"lossTo"` // share of what goes there
	LossFrom float64 `json:"lossFrom"`
	// OfTo and OfFrom are how many datagrams the shares were measured on.
	OfTo   int     `json:"ofTo"`
	OfFrom int     `json:"ofFrom"`
	Heard  float64 `json:"heardSeconds"` // since the last came
}

// ways is how the ways to other regions' leaders are, by region/node. They are measured by nodes that lead.
func (s *spread) ways(now time.Time) map[string]Way {
	all := map[string]Way{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, h := range s.gossip.Ways(now) {
		all[name] = Way{
			RTT: float64(h.RTT) / float64(time.Millisecond), LossTo: h.LossOut, LossFrom: h.LossIn, OfTo: h.MeasuredO, OfFrom: h.MeasuredI,
			Heard: now.Sub(h.Heard).Seconds(),
		}
	}
	return all
}

var (
	roundTrip = prometheus.NewDesc("roam_replication_round_trip_seconds",
		"Round trip to a region's leader, measured on datagrams and smoothed; the longest, if several lead there.", []string{"region"}, nil)
	lossRatio = prometheus.NewDesc("roam_replication_loss_ratio",
		"Share of datagrams to a region's leader, or from it, that were lost lately; the largest, if several lead there.",
		[]string{"region", "direction"}, nil)
)

// Describe implements prometheus.Collector.
func (s *spread) Describe(to chan<- *prometheus.Desc) {
	s.datagrams.Describe(to)
	s.fresh.Describe(to)
	to <- roundTrip
	to <- lossRatio
}

// Collect implements prometheus.Collector.
func (s *spread) Collect(to chan<- prometheus.Metric) {
	s.datagrams.Collect(to)
	s.fresh.Collect(to)
	worst := map[string]Way{}
	for name, w := range s.ways(time.Now()) {
		region, _, _ := strings.Cut(name, "/")
		o := worst[region]
		worst[region] = Way{RTT: max(o.RTT, w.RTT), LossTo: max(o.LossTo, w.LossTo), LossFrom: max(o.LossFrom, w.LossFrom)}
	}
	for region, w := range worst {
		to <- prometheus.MustNewConstMetric(roundTrip, prometheus.GaugeValue, w.RTT/1000, region)
		to <- prometheus.MustNewConstMetric(lossRatio, prometheus.GaugeValue, w.LossTo, region, "to")
		to <- prometheus.MustNewConstMetric(lossRatio, prometheus.GaugeValue, w.LossFrom, region, "from")
	}
}
