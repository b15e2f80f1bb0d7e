package crdt

import (
	"fmt"
	"time"
)

// Stamp is a hybrid logical clock reading: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16
// (Kulkarni et al., "Logical Physical Clocks", 2014). Together with the issuing origin it is unique.
type Stamp uint64

const (
	counterBits = 16
	// maxStamp bounds what decoders take, so that counting on from it can never wrap: some 4,400 years from now.
	maxStamp = Stamp(1) << 63
)

// StampAt is the first stamp of a moment.
func StampAt(t time.Time) Stamp { return Stamp(t.UnixMilli()) << counterBits }

// Wall returns the stamp's physical part in milliseconds since 1970. It may run ahead of every clock here, when a
// peer's clock did.
func (s Stamp) Wall() int64 { return int64(s >> counterBits) }

// Version is a stamp with the origin that gave it: the total order of map ops.
type Version struct {
	Stamp Stamp
	By    OriginID
}

// Less orders versions; two versions are equal only for copies of one op.
func (v Version) Less(w Version) bool {
	if v.Stamp != w.Stamp {
		return v.Stamp < w.Stamp
	}
	return v.By < w.By
}

// String is the client's `hlc`: 24 hex digits that compare byte by byte as versions do.
func (v Version) String() string { return fmt.Sprintf("%016x%08x", uint64(v.Stamp), uint32(v.By)) }

// Clock gives strictly growing stamps. The zero value is ready; its owner guards it.
type Clock struct{ last Stamp }

// Next returns a stamp above the last one and above floor, and not before now.
func (c *Clock) Next(now time.Time, floor Stamp) Stamp {
	c.Observe(floor)
	c.last = max(c.last+1, StampAt(now))
	return c.last
}

// Observe raises the clock to a stamp given elsewhere.
func (c *Clock) Observe(s Stamp) { c.last = max(c.last, s) }
