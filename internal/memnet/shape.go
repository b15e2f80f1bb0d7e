package memnet

import (
	"math/rand/v2"
	"time"
)

// Shape is what a link does to what it carries. The zero value does nothing.
type Shape struct {
	Delay, Jitter time.Duration // one way; up to Jitter more, uniform
	// Loss and Duplicate are shares, 0 to 1, of packets. A stream loses nothing, as TCP does not: what is lost comes a round trip
	// later, and all that follows it waits. Packets of one that is over pieceBytes count by piece.
	Loss, Duplicate float64
	Rate            int // bytes a second, over all connections; 0: any
}

// pieceBytes is about what a packet of a stream carries.
const pieceBytes = 1400

// again is the least that it takes until something lost is sent again.
const again = 10 * time.Millisecond

// Count is what a link was given. Bytes are those that were written: no headers are added.
type Count struct{ Packets, Bytes, Lost, Doubled uint64 }

// Shape changes the link from one region to another, from now on. It keeps a cut.
func (n *Network) Shape(from, to string, s Shape) {
	n.link(from, to).set(func(l *link) { l.shape = s })
}

// Count returns what has gone from one region to another.
func (n *Network) Count(from, to string) Count {
	l := n.link(from, to)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// stream is when bytes of a stream arrive that are written now.
func (l *link) stream(now time.Time, bytes int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	pieces := (bytes + pieceBytes - 1) / pieceBytes
	l.count.Packets += uint64(pieces)
	l.count.Bytes += uint64(bytes)
	due := l.arrival(now, bytes)
	for ; pieces > 0 && l.shape.Loss > 0; pieces-- {
		for l.lost() {
			due = due.Add(again + 2*l.shape.Delay)
		}
	}
	return due
}

// packet is when the copies of a packet arrive that is sent now: none, one or two.
func (l *link) packet(now time.Time, bytes int) (due []time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Packets++
	l.count.Bytes += uint64(bytes)
	if l.lost() {
		return nil
	}
	due = append(due, l.arrival(now, bytes))
	if l.shape.Duplicate > 0 && rand.Float64() < l.shape.Duplicate {
		l.count.Doubled++
		due = append(due, l.arrival(now, bytes))
	}
	return due
}

// lost draws whether a packet is. Holding mu.
func (l *link) lost() bool {
	if l.shape.Loss <= 0 || rand.Float64() >= min(l.shape.Loss, maxLoss) {
		return false
	}
	l.count.Lost++
	return true
}

// maxLoss is the share above which a stream would not get through.
const maxLoss = 0.9

// arrival is when what is sent now is there. Holding mu.
func (l *link) arrival(now time.Time, bytes int) time.Time {
	if l.shape.Rate > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		l.free = l.free.Add(time.Duration(float64(bytes) / float64(l.shape.Rate) * float64(time.Second)))
		now = l.free
	}
	now = now.Add(l.shape.Delay)
	if l.shape.Jitter > 0 {
		now = now.Add(time.Duration(rand.Int64N(int64(l.shape.Jitter))))
	}
	return now
}
