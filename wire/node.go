package wire

import (
	"errors"
	"fmt"

	"github.com/roamsync/roam/crdt"
)

// Errors that the parts of a node tell each other.
var (
	// ErrUnavailable: the region cannot commit now; the same may be tried again.
	ErrUnavailable = errors.New("the region cannot commit now")
	// ErrEvicted: the region was given up while it was away, and takes nothing before it has begun anew.
	ErrEvicted = fmt.Errorf("this region was evicted while it was away: put this in another one: %w", ErrUnavailable)
	// ErrGap: records do not follow what is held; start again from the cursor.
	ErrGap = errors.New("records do not follow the cursor")
	// ErrPart: what came is no part of a partition's state, or damaged.
	ErrPart = errors.New("bad part of a partition's state")
	// ErrFork: a feed's hash differs at a position that both sides hold.
	ErrFork = errors.New("feeds differ at the same position")
	// ErrFloor: records are asked for that are not kept any more.
	ErrFloor = errors.New("the feed is not kept from there on")
	// ErrBehind: a peer holds more of our own feed than we do.
	ErrBehind = errors.New("a peer holds ops of ours that we do not")
)

// Put is a client's ops on one session: all are accepted or none.
type Put struct {
	Session string
	Ops     []*crdt.Op
	Floor   crdt.Floor
	// Tag is chosen by the caller, unique on this node while the put is under way; the put's Event bears it.
	Tag uint64
	// Fail is called, at most once and instead of an Event, if the put could not be committed in time. It may have
	// been committed all the same; the caller's client tries again by oid.
	Fail func(error)
}

// Placed is where an op stands after a put: the place of an entry, the version of a map op, and its dot.
type Placed struct {
	OID     string
	Place   crdt.Place
	Version crdt.Version
	Dot     crdt.Dot
}

// Change is one op that was applied, and what it shows to those who watch the session.
type Change struct {
	Dot   crdt.Dot
	Op    *crdt.Op
	Items []crdt.Item
}

// Event is what one proposal, or one record of a feed, did to one session. Events come in apply order.
type Event struct {
	Session string
	Changes []Change
	// Tag is that of the Put which caused it, on the node that the put entered by; otherwise 0.
	Tag uint64
	// Placed has one element per op of the Put, in its order, retries included. Nil if Tag is 0 or Refused is set.
	Placed []Placed
	// Stands is what decides, for map ops of the Put that were known and do not: whoever put them may not know.
	Stands []crdt.Item
	// Gone: an op of the Put was known, and was removed since. Whoever put it may still show it.
	Gone bool
	// Refused is why the put changed nothing: it wraps one of crdt's reasons.
	Refused error
	// Reset is set in an event of its own: the node has taken over another's state, and events that led to it were not
	// told here. Whoever shows or derives anything starts anew.
	Reset bool
	// Merged is set in an event of its own: what another region has of the session was merged into it, and the ops that led
	// to that were not told. Whoever shows or derives anything of the session looks at it anew.
	Merged bool
	// Jumps, in an event of its own without a session, are cursors that have moved over records that are not held here: a
	// transfer of state is complete.
	Jumps []crdt.Dot
	// Closed, in an event of its own without a session, are partitions in which origins were closed, or their ends have risen, a bit each.
	Closed uint64
}

// Final says that an origin is closed in a partition: nobody numbers under it any more, and f was the last.
type Final struct {
	Origin    crdt.Origin
	Partition uint8
	F         uint64
}

// Touched returns the partitions in which events have moved cursors, a bit each.
func Touched(events []Event) (partitions uint64) {
	for i := range events {
		if events[i].Reset {
			return ^uint64(0)
		}
		for j := range events[i].Changes {
			partitions |= 1 << events[i].Changes[j].Dot.Partition
		}
		for _, d := range events[i].Jumps {
			partitions |= 1 << d.Partition
		}
		partitions |= events[i].Closed
	}
	return partitions
}

// OpenRun names an answer that is not closed.
type OpenRun struct {
	Session string
	Run     string
}

// RegionInfo is what a client is told of a region.
type RegionInfo struct {
	Name  string `json:"name"`
	URL   string `json:"url"`
	State string `json:"state"` // "up", "draining" or "down"
	// URLs are those of all its live nodes, URL first, if there are several.
	URLs []string `json:"urls,omitempty"`
}

// Reach says where an op is by what peers have acknowledged.
type Reach struct {
	Regions int  // other regions known to have it
	Safe    bool // that is enough
}

// Member is a node of the own region, as membership knows it.
type Member struct {
	Node  string
	ID    string // raft id
	Addr  string // for Raft and gRPC
	Alive bool
}
