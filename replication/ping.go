package replication

import (
	"encoding/binary"
	"time"

	"github.com/hashicorp/memberlist"
)

// Clock is held against those of other nodes.
type Clock interface {
	// Machine is what this node's machine shows, right or wrong.
	Machine() time.Time
	// Heard takes what another's showed in the middle of a round trip that has just ended.
	Heard(node string, showed time.Time, trip time.Duration)
}

// clockSize is what an answer to a ping carries: milliseconds since 1970, big endian.
const clockSize = 8

// pings has each answer to a ping carry the clock of who answers. Whoever is alive is pinged again and again, by every node.
type pings struct{ clock Clock }

// AckPayload implements memberlist.PingDelegate.
func (p pings) AckPayload() []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, clockSize), uint64(p.clock.Machine().UnixMilli()))
}

// maxClock bounds what is taken for a clock: the year 6429 or so, above which times cannot be told apart any more.
const maxClock = 1 << 47

// NotifyPingComplete implements memberlist.PingDelegate.
func (p pings) NotifyPingComplete(other *memberlist.Node, trip time.Duration, payload []byte) {
	if len(payload) != clockSize { // of a version that says none
		return
	}
	if ms := binary.BigEndian.Uint64(payload); ms < maxClock {
		p.clock.Heard(other.Name, time.UnixMilli(int64(ms)), trip)
	}
}
