package replication

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// lag is how far this region is behind each other one, and they behind it, in the partitions that this node follows, as
// their heads and acknowledgements say. It is worked out when it is asked for. Lanes are as many as regions that
// membership admits, times groups.
type lag struct {
	region string                   // own
	out    func(region string) bool // it was given up: nobody waits for it; nil: none ever is
	now    func() time.Time
	source Source
	local  Local
	matrix *matrix

	mu    sync.Mutex // guards what follows
	lanes map[lane]*pace
}

// pace is when a lane was heard last, and when it last had nothing that we lacked.
type pace struct{ heard, even time.Time }

// newLag measures what a region is behind. now is the time that ops are put by.
func newLag(region string, source Source, local Local, m *matrix, now func() time.Time) *lag {
	return &lag{region: region, now: now, source: source, local: local, matrix: m, lanes: map[lane]*pace{}}
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

// unacked is what a region is not known to hold of what was issued here.
type unacked struct {
	ops, bytes uint64
	oldest     time.Time // when the oldest of it was put; zero: nothing is, or nobody knows
}

// ahead is what a region is not known to hold of what our region has issued, under this incarnation or one before.
func (l *lag) ahead(of lane) (u unacked) {
	acked := map[crdt.OriginID]*[crdt.Partitions]uint64{}
	l.matrix.each(of.region, func(id crdt.OriginID, p uint8, f uint64) {
		if acked[id] == nil {
			acked[id] = &[crdt.Partitions]uint64{}
		}
		acked[id][p] = f
	})
	for _, o := range l.source.Origins() {
		if o.Region() != l.region {
			continue
		}
		for p := range uint8(crdt.Partitions) {
			if f, have := uint64(0), l.local.Cursors(p)[o.ID()]; of.partitions&(1<<p) != 0 {
				if all := acked[o.ID()]; all != nil {
					f = all[p]
				}
				if f < have {
					u.add(l.source, o, p, f, have)
				}
			}
		}
	}
	return u
}

// sampleBytes is about how much of a feed is read to say how large the rest is.
const sampleBytes = 16 << 10

// add adds what a feed has after f up to its head. Its bytes are those of the first records, as far as they are read, and of the others
// as many each.
func (u *unacked) add(source Source, o crdt.Origin, p uint8, f, head uint64) {
	u.ops += head - f
	rs, err := source.Feed(o, p, f+1, sampleBytes)
	if err != nil || len(rs.Records) == 0 { // not kept any more: whole states go instead
		return
	}
	size := 0
	for _, r := range rs.Records {
		size += len(r)
	}
	u.bytes += uint64(float64(size) / float64(len(rs.Records)) * float64(head-f))
	if rec, err := wire.DecodeRecord(rs.Records[0]); err == nil {
		if op, err := crdt.DecodeOp(rec.Op); err == nil {
			if at := time.UnixMilli(op.TS); u.oldest.IsZero() || at.Before(u.oldest) {
				u.oldest = at
			}
		}
	}
}

// age is for how long the oldest of it has waited.
func (u unacked) age(now time.Time) float64 {
	if u.oldest.IsZero() {
		return 0
	}
	return max(now.Sub(u.oldest).Seconds(), 0)
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
	aheadBytes    = lagDesc("unacknowledged_bytes", "Bytes of their records, before compression; estimated from the oldest 16 KiB of each partition where there are more.")
	aheadSeconds  = lagDesc("unacknowledged_seconds", "Age of the oldest of them.")
	heardSeconds  = lagDesc("heard_seconds", "Time since a region's heads were heard; they come four times a second.")
)

// Describe implements prometheus.Collector.
func (l *lag) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{behindOps, behindSeconds, aheadOps, aheadBytes, aheadSeconds, heardSeconds} {
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
		if l.out != nil && l.out(n.region) {
			continue
		}
		v := all[n.region]
		if v == nil {
			v = map[*prometheus.Desc]float64{}
			all[n.region] = v
		}
		behind := l.behind(n)
		v[behindOps] += float64(behind)
		ahead := l.ahead(n)
		v[aheadOps] += float64(ahead.ops)
		v[aheadBytes] += float64(ahead.bytes)
		v[aheadSeconds] = max(v[aheadSeconds], ahead.age(l.now()))
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
