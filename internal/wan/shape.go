package wan

import (
	"fmt"
	"strings"
	"time"
)

// Pair is one direction between two regions.
type Pair struct{ From, To string }

// Shape is what the way from one region to another does to packets. The zero value does nothing.
type Shape struct {
	Delay     time.Duration // one way
	Jitter    time.Duration // up to so much more, uniform; it makes nothing overtake
	Loss      float64       // share of packets, 0 to 1
	Duplicate float64       // share of packets that arrive twice
	Rate      int           // bytes a second; 0: any
	Cut       bool          // nothing arrives, nothing fails
}

// queueBytes bounds what is under way in one direction; what does not fit is lost and counted, as at a router. Where the
// rate is limited that is what can be sent in queueTime, as at a router that is configured well.
const (
	queueBytes    = 32 << 20
	queueTime     = 200 * time.Millisecond
	queueBytesMin = 64 << 10
)

func (s Shape) queue() int {
	if s.Rate == 0 {
		return queueBytes
	}
	return max(queueBytesMin, int(float64(s.Rate)*queueTime.Seconds()))
}

// String says it in words.
func (s Shape) String() string {
	if s.Cut {
		return "cut"
	}
	words := []string{s.Delay.String()}
	if s.Jitter > 0 {
		words = append(words, "up to "+s.Jitter.String()+" more")
	}
	for _, share := range []struct {
		of   float64
		what string
	}{{s.Loss, "lost"}, {s.Duplicate, "twice"}} {
		if share.of > 0 {
			words = append(words, fmt.Sprintf("%.4g %% %s", share.of*100, share.what))
		}
	}
	if s.Rate > 0 {
		words = append(words, fmt.Sprintf("%d KB/s", s.Rate/1000))
	}
	return strings.Join(words, ", ")
}

// Count is what has gone one way. Bytes are those on the wire, IP and TCP headers included.
type Count struct {
	Packets, Bytes uint64 // that were sent, whatever became of them; copies are not
	Lost           uint64 // by Loss
	Cut            uint64 // by Cut
	Full           uint64 // there was no room, on the way or in the device
	Doubled        uint64
	Late           uint64 // handed over more than lateBy after they were due: the rig had too little of the machine
	Gossip         uint64 // bytes from and to the ports of membership; 0 where that is not known
}

// lateBy is from when on a packet counts as late.
const lateBy = time.Millisecond

// Sub is what has gone since an earlier count.
func (c Count) Sub(was Count) Count {
	return Count{c.Packets - was.Packets, c.Bytes - was.Bytes, c.Lost - was.Lost, c.Cut - was.Cut, c.Full - was.Full, c.Doubled - was.Doubled,
		c.Late - was.Late, c.Gossip - was.Gossip}
}
