package feeds

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Feed names an origin's feed of a partition.
type Feed struct {
	Origin    crdt.Origin
	Partition uint8
}

func (f Feed) String() string { return fmt.Sprintf("%s/%d", f.Origin, f.Partition) }

// Local is the region's own copy, as far as it is applied.
type Local interface {
	// Self is what the region issues as in a partition.
	Self(partition uint8) crdt.Origin
	Cursors(partition uint8) crdt.Vector
	// Position returns the running hash of a feed at f, if that is held.
	Position(origin crdt.Origin, partition uint8, f uint64) (wire.Position, bool)
	// Feed returns records from one position on: at least one if there is one, up to maxBytes. wire.ErrFloor: they are not
	// kept any more.
	Feed(origin crdt.Origin, partition uint8, from uint64, maxBytes int) (wire.Records, error)
	States
	Closings
	// Level is the feature level that the region has committed.
	Level() uint32
}

// States is the region's own copy, as far as whole partitions are taken from it or into it.
type States interface {
	// Part returns some of the sessions of a partition that are asked for, about maxBytes. wire.ErrUnavailable: not now.
	Part(w *peerpb.Pull, maxBytes int) (*peerpb.Part, error)
	// Pull is what to ask a region for next, to take a partition's state, and whether that was begun before; nil: all has come, and
	// is being merged.
	Pull(partition uint8, from string) (w *peerpb.Pull, resumed bool, err error)
}

// Action is something for the owner to do. One field is set.
type Action struct {
	Send    *peerpb.Want // to the region that is followed
	Commit  *Batch       // to the own region's log; Done takes what came of it
	Install *Install     // likewise; Installed takes what came of it
	Renew   *Renew       // go on under a new incarnation
	Evict   *Evict       // to the own region's log
	Close   []wire.Final // likewise
	Event   *Event       // to be counted, and logged
}

// Batch is some records that have arrived in order.
type Batch struct {
	wire.Records
	Note any // the owner's
}

func (b *Batch) feed() Feed { return Feed{b.Origin, b.Partition} }

// Renew says which incarnation has lost ops.
type Renew struct {
	Lost  crdt.Origin
	Above uint64 // the new one is to be later than this too
	Why   string
}

// Event is something that did not go as it should.
type Event struct {
	Reason Reason
	Feed   Feed
	Why    error
}

// Reason is a metric's label.
type Reason string

// The reasons of events.
const (
	NotNext    Reason = "not_next"    // records that do not follow the last, as after a new start
	BadHash    Reason = "hash"        // records do not hash to what was announced
	Rewind     Reason = "rewind"      // a feed starts again from the cursor
	Fork       Reason = "fork"        // two contents under one number
	NoPosition Reason = "no_position" // the record at our own cursor is not held
	BadRequest Reason = "subscription"
	Evicted    Reason = "evicted" // who asks was given up while it was away
)

// Bounds of what is committed at a time.
const (
	pieceRecords = 128
	pieceBytes   = 64 << 10
)

// Times of a feed.
const (
	// RewindPause is before a feed starts again.
	RewindPause = 100 * time.Millisecond
	// ForkPause is how long a feed with two contents is left alone.
	ForkPause = 30 * time.Second
	// HoldRetry is how often records whose causes are not here are tried, if nothing of their partition is applied.
	HoldRetry = 250 * time.Millisecond
	// staleAfter is how long a feed may stand still while its source has more, before it starts again.
	staleAfter = 2 * time.Second
	// maxStuck is how often a feed starts again in vain before the whole stream does.
	maxStuck = 2
)

// ErrMessage is for a message that no region sends.
var ErrMessage = errors.New("bad message from a peer")

func feedOf(origin string, partition uint32) (Feed, error) {
	o, err := crdt.ParseOrigin(origin)
	if err != nil {
		return Feed{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if partition >= crdt.Partitions {
		return Feed{}, fmt.Errorf("%w: no partition %d", ErrMessage, partition)
	}
	if err := CheckEpochs(o.Incarnation()); err != nil {
		return Feed{}, err
	}
	return Feed{o, uint8(partition)}, nil
}

// CheckEpochs refuses incarnations after which there is none that is later: a region that has to go on above such a one could not.
func CheckEpochs(all ...uint64) error {
	for _, epoch := range all {
		if epoch >= crdt.MaxIncarnation {
			return fmt.Errorf("%w: incarnation %016x", ErrMessage, epoch)
		}
	}
	return nil
}

// All is all partitions, a bit each.
const All = ^uint64(0)

// firstOf is the first of some partitions, a bit each.
func firstOf(partitions uint64) uint8 { return uint8(bits.TrailingZeros64(partitions | 1<<63)) }

// Heads is how far the feeds of some partitions, a bit each, are applied here: of every origin that has issued in them, and
// of the own region even before. Others are 0. Beside them stands what is closed, and who was given up.
func Heads(local Local, origins []crdt.Origin, partitions uint64) *peerpb.Heads {
	h := &peerpb.Heads{Epoch: Epoch(local, partitions), Level: local.Level(), Evicted: evictedOf(local.Evictions(firstOf(partitions)))}
	for _, o := range origins {
		head, id, there := &peerpb.Head{Origin: string(o), F: make([]uint64, crdt.Partitions)}, o.ID(), partitions == All
		for p := range head.F {
			if partitions&(1<<p) != 0 {
				head.F[p] = local.Cursors(uint8(p))[id]
				there = there || head.F[p] > 0 || o == local.Self(uint8(p))
			}
		}
		head.Final = finalsOf(local, id, partitions)
		if there || head.Final != nil {
			h.Heads = append(h.Heads, head)
		}
	}
	return h
}
