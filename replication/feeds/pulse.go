package feeds

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// quietBeats is how many times heads may be as they were before that is said. Heads are looked at every 250 ms: a stream is
	// silent for a second at most.
	quietBeats = 4
	// wholeBeats is how many such heartbeats come before one that says all heads again. Nothing is lost on a stream; what a
	// bug has lost all the same is missed for some seconds, not for ever.
	wholeBeats = 8
	// againRate bounds what it costs to say again what has not changed, in bytes a second: what many incarnations have numbered is said more seldom.
	againRate = 256
)

// Again decides when something is said again although nothing may have changed, by how long it is. The zero value may say it now.
type Again struct{ due time.Time }

// May reports whether something of a size is said now.
func (a *Again) May(size int, now time.Time) bool {
	if now.Before(a.due) {
		return false
	}
	a.due = now.Add(time.Duration(size) * time.Second / againRate)
	return true
}

// Pulse decides what of the heads a sender says when: what has changed, at once; that nothing has, now and then. The zero value
// has said nothing.
type Pulse struct {
	said  map[string]*peerpb.Head
	out   []*peerpb.Evicted // as last said
	epoch uint64
	level uint32
	quiet int // looks at which nothing had changed since something was said
	beats int // heartbeats since all was said
	after int // that come before it is said again
}

// Beat is what to send now, given all heads; nil: nothing. Who says that a region was given up says all heads with it: whoever hears that may
// close what that region has numbered at what it knows the others to hold.
func (b *Pulse) Beat(all *peerpb.Heads) *peerpb.Have {
	whole := b.said == nil || all.Epoch != b.epoch || all.Level != b.level || b.beats >= b.after && b.quiet >= quietBeats-1 ||
		!slices.EqualFunc(b.out, all.Evicted, sameEvicted)
	h := &peerpb.Heads{Epoch: all.Epoch, Level: all.Level, Whole: whole}
	if whole {
		b.said, b.epoch, b.level, b.beats = map[string]*peerpb.Head{}, all.Epoch, all.Level, 0
	}
	for _, head := range all.Heads {
		if whole || !sameHead(b.said[head.Origin], head) {
			b.said[head.Origin] = head
			h.Heads = append(h.Heads, head)
		}
	}
	if whole {
		b.out, h.Evicted = all.Evicted, all.Evicted
		b.after = max(wholeBeats, proto.Size(h)/againRate) // of a second each
	}
	switch b.quiet++; {
	case whole || len(h.Heads) > 0:
		b.quiet = 0
		return &peerpb.Have{Heads: h}
	case b.quiet >= quietBeats:
		b.quiet = 0
		b.beats++
		return &peerpb.Have{}
	}
	return nil
}

func sameHead(a, b *peerpb.Head) bool {
	return a != nil && slices.Equal(a.F, b.F) && slices.Equal(a.Final, b.Final)
}

func sameEvicted(a, b *peerpb.Evicted) bool {
	return a.Region == b.Region && a.Bound == b.Bound && a.Back == b.Back
}

// Beating reports whether a message is a heartbeat: heads, or that they are as they were.
func Beating(have *peerpb.Have) bool {
	return have.Heads != nil || have.Records == nil && have.Refused == nil && have.Part == nil && have.Piece == nil && have.Bundle == nil
}

// merge takes heads into what was known of them, and returns all that is.
func merge(known []*peerpb.Head, h *peerpb.Heads) []*peerpb.Head {
	if h.Whole {
		return h.Heads
	}
	for _, head := range h.Heads {
		i := slices.IndexFunc(known, func(k *peerpb.Head) bool { return k.Origin == head.Origin })
		if i < 0 {
			known = append(known, head)
		} else {
			known[i] = head
		}
	}
	return known
}
