package feeds

import (
	"time"

	"github.com/roamsync/roam/wire/peerpb"
)

// lossWindow is how many datagrams loss is measured on, up to twice as many.
const lossWindow = 256

// Health is how the way between two nodes is, measured on the datagrams that they send each other. Loss is of one direction,
// a share; the round trip is of both.
type Health struct {
	RTT       time.Duration // smoothed; 0: not measured yet
	LossIn    float64       // towards this node
	LossOut   float64       // away from it, as the other one says
	MeasuredI int           // datagrams that LossIn was measured on
	MeasuredO int
	Heard     time.Time // when the last came
}

// window measures loss: numbers that have not come, of those that could have. A datagram that came twice hides one that was lost;
// one that comes late was lost for as long.
type window struct {
	begun     bool
	first     uint32 // number before the first of the window
	highest   uint32
	got       uint32
	was, lost uint32 // in the window before: datagrams, and how many of them did not come
}

// take notes that a datagram has come.
func (w *window) take(seq uint32) {
	if !w.begun {
		*w = window{begun: true, first: seq - 1, highest: seq - 1}
	}
	if int32(seq-w.first) <= 0 {
		return // of a window that has been closed
	}
	w.got++
	if int32(seq-w.highest) > 0 {
		w.highest = seq
	}
	if all := w.highest - w.first; all >= lossWindow {
		w.was, w.lost = all, all-min(all, w.got)
		w.first, w.got = w.highest, 0
	}
}

// measured returns the share that was lost, in 10,000ths, and of how many.
func (w *window) measured() (lost, of uint32) {
	all := w.highest - w.first
	of = all + w.was
	if of == 0 {
		return 0, 0
	}
	missing := uint64(all - min(all, w.got) + w.lost)
	return uint32(min(missing*10_000/uint64(of), 10_000)), of
}

// took notes a datagram of the other node. clock is what this node's stamps show now.
func (m *mate) took(g *peerpb.Gossip, now time.Time, clock uint32) {
	if g.Run != m.run {
		m.run, m.in = g.Run, window{} // its process has begun anew
	}
	m.in.take(g.Seq)
	m.stamp, m.came = g.Stamp, now
	m.health.Heard = now
	if e := g.Echo; e != nil {
		m.health.LossOut, m.health.MeasuredO = float64(e.Lost)/10_000, int(e.Of)
		if e.Stamp != 0 {
			m.roundTrip(time.Duration(clock-e.Stamp-e.Held) * time.Microsecond)
		}
	}
	lost, of := m.in.measured()
	m.health.LossIn, m.health.MeasuredI = float64(lost)/10_000, int(of)
}

// maxTrip bounds what is taken for a round trip: a stamp of long ago looks like one.
const maxTrip = time.Minute

func (m *mate) roundTrip(d time.Duration) {
	switch {
	case d < 0 || d > maxTrip:
	case m.health.RTT == 0:
		m.health.RTT = d
	default:
		m.health.RTT += (d - m.health.RTT) / 8
	}
}

// echo is what to tell the other node of its datagrams.
func (m *mate) echo(now time.Time) *peerpb.Echo {
	lost, of := m.in.measured()
	e := &peerpb.Echo{Lost: lost, Of: of}
	if m.stamp != 0 {
		e.Stamp, e.Held = m.stamp, uint32(max(now.Sub(m.came), 0)/time.Microsecond)
		m.stamp = 0 // once: the next one is fresher
	}
	return e
}
