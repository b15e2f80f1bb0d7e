package congestion

const (
	// tolerated is the share of segments lost that calls for neither: above it the level rises, below it falls. With so much lost cubic has some 22 segments under
	// way, whatever the distance, with three times as much 12, and that is what a busy link has to say in a round trip.
	tolerated = 1.0 / 300
	// switchAt is how many segments more than tolerated are lost before a connection counts as lossy.
	switchAt = 4
	// most bounds how far the level rises, and so for how long next to nothing must be lost before a connection counts as clean: 3,600 segments.
	most = 12
	// mostAtOnce bounds what one look adds. A queue that overflows once, as when a region catches up, loses hundreds of segments in one go: that is not a
	// link that loses, and it takes three looks in which something was lost to be one.
	mostAtOnce = 1.5
	// remembered is what each look leaves of what was counted before: the share lost is that of the last half minute, or so.
	remembered = 0.967
)

// loss is how a connection fares: a bucket into which each lost segment pours one, and which leaks one with every 300 that are sent. It is full for a while after
// it was filled, and who is in between stays what it is. While nothing is sent nothing changes. The zero value is a connection that has lost nothing.
type loss struct {
	level      float64
	lossy      bool
	sent, lost float64 // segments lately
}

// counts is what a connection has sent since it was made, as its kernel counts, modulo 2^32.
type counts struct {
	sent  uint32 // segments with data, those sent again included
	again uint32 // of those, sent again
	twice uint32 // that the other end has said it had already
}

// since is what was sent and lost since an earlier count. What was sent again, and turns out to have come before, was not lost; the other end says so a round trip
// later, so that lost may be below 0.
func (c counts) since(was counts) (sent, lost float64) {
	return float64(c.sent - was.sent), float64(int32(c.again-was.again)) - float64(int32(c.twice-was.twice))
}

// next is how it fares after so much more was sent and lost.
func (l loss) next(sent, lost float64) loss {
	l.level = min(max(l.level+min(lost-tolerated*sent, mostAtOnce), 0), most)
	if l.level >= switchAt {
		l.lossy = true
	} else if l.level == 0 {
		l.lossy = false
	}
	l.sent, l.lost = l.sent*remembered+sent, l.lost*remembered+lost
	return l
}
