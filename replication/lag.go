package replication

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/crdt"
)

// lag is how far this region is behind each other one, and they behind it, in the partitions that this node follows, as
// their heads and acknowledgements say. It is worked out when it is asked for. Lanes are as many as regions that
// membership admits, times groups.
type lag struct {
	local  Local
	matrix *matrix

	mu    sync.Mutex // guards what follows
	lanes map[lane]*pace
}

// pace is when a lane was heard last, and when it last had nothing that we lacked.
type pace struct{ heard, even time.Time }

func newLag(local Local, m *matrix) *lag {
	return &lag{local: local, matrix: m, lanes: map[lane]*pace{}}
}

// heard is called when heads have come.
func (l *lag) heard(n lane, now time.Time) {
	even := l.behind(n) == 0
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.lanes[n]
	if p == nil {
		p = &pace{even: now}
		l.lanes[n] = p
	}
	p.heard = now
	if even {
		p.even = now
	}
}

// forget is for what this node no longer follows: another does.
func (l *lag) forget(n lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lanes, n)
}

// behind counts the ops that a region is known to hold and that are not applied here.
func (l *lag) behind(of lane) (n uint64) {
	l.matrix.each(of.region, func(id crdt.OriginID, p uint8, f uint64) {
		if of.partitions&(1<<p) == 0 {
			return
		}
		if have := l.local.Cursors(p)[id]; f > have {
			n += f - have
		}
	})
	return n
}

// ahead counts the ops of our own that a region is not known to hold.
func (l *lag) ahead(of lane) (n uint64) {
	var selfs [crdt.Partitions]crdt.OriginID
	for p := range uint8(crdt.Partitions) {
		if of.partitions&(1<<p) != 0 {
			selfs[p] = l.local.Self(p).ID()
			n += l.local.Cursors(p)[selfs[p]]
		}
	}
	l.matrix.each(of.region, func(id crdt.OriginID, p uint8, f uint64) {
		if of.partitions&(1<<p) != 0 && id == selfs[p] {
			n -= min(f, l.local.Cursors(p)[id], n)
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

// Collect implements prometheus.Collector. Of a region that is followed over several links, ops are added up, and the
// worst time counts.
func (l *lag) Collect(to chan<- prometheus.Metric) {
	now, lanes, all := time.Now(), map[lane]pace{}, map[string]map[*prometheus.Desc]float64{}
	l.mu.Lock()
	for n, p := range l.lanes {
		lanes[n] = *p
	}
	l.mu.Unlock()
	for n, p := range lanes {
		v := all[n.region]
		if v == nil {
			v = map[*prometheus.Desc]float64{}
			all[n.region] = v
		}
		behind := l.behind(n)
		v[behindOps] += float64(behind)
		v[aheadOps] += float64(l.ahead(n))
		v[behindSeconds] = max(v[behindSeconds], p.seconds(now, behind))
		v[heardSeconds] = max(v[heardSeconds], now.Sub(p.heard).Seconds())
	}
	for region, values := range all {
		for d, v := range values {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, region)
		}
	}
}

// each visits what a region was heard to hold.
func (m *matrix) each(region string, visit func(crdt.OriginID, uint8, uint64)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.Each(region, visit)
}
