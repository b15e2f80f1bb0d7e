package replication

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/crdt"
)

// lag is how far this region is behind each other one, and they behind it, as their heads and acknowledgements say. It
// is worked out when it is asked for. Regions are as many as membership admits.
type lag struct {
	local  Local
	matrix *matrix

	mu      sync.Mutex // guards what follows
	regions map[string]*pace
}

// pace is when a region was heard last, and when it last had nothing that we lacked.
type pace struct{ heard, even time.Time }

func newLag(local Local, m *matrix) *lag {
	return &lag{local: local, matrix: m, regions: map[string]*pace{}}
}

// heard is called when a region's heads have come.
func (l *lag) heard(region string, now time.Time) {
	even := l.behind(region) == 0
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.regions[region]
	if p == nil {
		p = &pace{even: now}
		l.regions[region] = p
	}
	p.heard = now
	if even {
		p.even = now
	}
}

// forget is for a node that no longer follows: another does.
func (l *lag) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.regions)
}

// behind counts the ops that a region is known to hold and that are not applied here.
func (l *lag) behind(region string) (n uint64) {
	l.matrix.each(region, func(id crdt.OriginID, p uint8, f uint64) {
		if have := l.local.Cursors(p)[id]; f > have {
			n += f - have
		}
	})
	return n
}

// ahead counts the ops of our own that a region is not known to hold.
func (l *lag) ahead(region string) (n uint64) {
	self := l.local.Self().ID()
	for p := range uint8(crdt.Partitions) {
		n += l.local.Cursors(p)[self]
	}
	l.matrix.each(region, func(id crdt.OriginID, p uint8, f uint64) {
		if id == self {
			n -= min(f, l.local.Cursors(p)[self], n)
		}
	})
	return n
}

// seconds says for how long a region has been ahead of us, or may have been: of one that is silent nobody knows.
func (p pace) seconds(now time.Time, behind uint64) float64 {
	if behind == 0 && now.Sub(p.heard) < silentAfter {
		return 0
	}
	return now.Sub(p.even).Seconds()
}

func lagDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("roam_replication_"+name, help, []string{"region"}, nil)
}

var (
	behindOps     = lagDesc("behind_ops", "Ops that a region holds, as it said, and that are not applied here.")
	behindSeconds = lagDesc("behind_seconds", "For how long there have been such ops, or the region has been silent after it was level.")
	aheadOps      = lagDesc("unacknowledged_ops", "Ops issued here that a region has not said it holds.")
	heardSeconds  = lagDesc("heard_seconds", "Time since a region's heads were heard; they come four times a second.")
)

// Describe implements prometheus.Collector.
func (l *lag) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{behindOps, behindSeconds, aheadOps, heardSeconds} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (l *lag) Collect(to chan<- prometheus.Metric) {
	now, all := time.Now(), map[string]pace{}
	l.mu.Lock()
	for region, p := range l.regions {
		all[region] = *p
	}
	l.mu.Unlock()
	for region, p := range all {
		behind := l.behind(region)
		for _, v := range []struct {
			d *prometheus.Desc
			v float64
		}{
			{behindOps, float64(behind)}, {behindSeconds, p.seconds(now, behind)},
			{aheadOps, float64(l.ahead(region))}, {heardSeconds, now.Sub(p.heard).Seconds()},
		} {
			to <- prometheus.MustNewConstMetric(v.d, prometheus.GaugeValue, v.v, region)
		}
	}
}

// each visits what a region was heard to hold.
func (m *matrix) each(region string, visit func(crdt.OriginID, uint8, uint64)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.Each(region, visit)
}
