package wan

import (
	"math/rand/v2"
	"time"
)

// lane is one direction between two regions: a queue of packets in the order in which they arrive. Times are since the
// start of who owns it. It has one owner.
type lane struct {
	shape Shape
	dice  *rand.Rand
	queue []flight
	bytes int
	free  time.Duration // when the wire has sent what it was given, if its rate is limited
	last  time.Duration // when the last of queue is due
	count Count
}

// flight is a packet under way.
type flight struct {
	due time.Duration
	b   []byte
}

// put decides what becomes of a packet that is sent now: it is under way until it is due, or it is gone, which is counted.
// It returns how many copies are under way; the lane keeps b if that is not 0.
func (l *lane) put(now time.Duration, b []byte) (copies int) {
	l.count.Packets++
	l.count.Bytes += uint64(len(b))
	s := &l.shape
	switch {
	case s.Cut:
		l.count.Cut++
		return 0
	case s.Loss > 0 && l.dice.Float64() < s.Loss:
		l.count.Lost++
		return 0
	case l.bytes+len(b) > s.queue():
		l.count.Full++
		return 0
	}
	l.push(flight{l.due(now, len(b)), b})
	if s.Duplicate > 0 && l.dice.Float64() < s.Duplicate {
		l.count.Doubled++
		l.push(flight{l.due(now, len(b)), append([]byte(nil), b...)})
		return 2
	}
	return 1
}

// due is when a packet of some bytes arrives: after those before it, at the rate of the wire, and the delay.
func (l *lane) due(now time.Duration, bytes int) time.Duration {
	at := now
	if l.shape.Rate > 0 {
		l.free = max(l.free, now) + time.Duration(float64(bytes)/float64(l.shape.Rate)*float64(time.Second))
		at = l.free
	}
	at += l.shape.Delay
	if l.shape.Jitter > 0 {
		at += time.Duration(l.dice.Int64N(int64(l.shape.Jitter)))
	}
	return max(at, l.last)
}

func (l *lane) push(f flight) {
	l.last = f.due
	l.bytes += len(f.b)
	l.queue = append(l.queue, f)
}

// take returns the next packet if it is due. What is under way when a way is cut is lost.
func (l *lane) take(now time.Duration) ([]byte, bool) {
	for len(l.queue) > 0 && (l.queue[0].due <= now || l.shape.Cut) {
		f := l.queue[0]
		l.queue[0] = flight{}
		l.queue = l.queue[1:]
		l.bytes -= len(f.b)
		if l.shape.Cut {
			l.count.Cut++
			continue
		}
		if now-f.due > lateBy {
			l.count.Late++
		}
		return f.b, true
	}
	return nil, false
}

// reshape changes the way; what is under way stays so, and nothing overtakes it.
func (l *lane) reshape(s Shape) { l.shape = s }
