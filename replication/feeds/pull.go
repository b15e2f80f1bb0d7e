package feeds

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// partBytes is about what one part of a state holds. A session is never divided between parts.
	partBytes = 512 << 10
	// wholeBytes is what a message may hold of a part: one that is larger is sent in pieces, between which heads and records go.
	wholeBytes = 1 << 20
	// MaxPart bounds a part, which is one entry of the other region's log. A session that is larger cannot go there.
	MaxPart = 63 << 20
	// maxPulls bounds the partitions whose states are pulled over one stream at once; the others wait.
	maxPulls = 4
	// pullTimeout is when a part is asked for again that has not come, or that was too large.
	pullTimeout = 10 * time.Second
	// PullPause is before a transfer that failed goes on.
	PullPause = time.Second
	// badPause is before a part is asked for again that was damaged.
	badPause = 30 * time.Second
)

// Reasons of transfers.
const (
	BelowFloor Reason = "floor"            // a feed is not kept from our cursor on: the state is pulled
	Resumed    Reason = "transfer_resumed" // a transfer goes on where it was cut
	Pulled     Reason = "transfer_done"
	NotPulled  Reason = "transfer_failed"
	TooLarge   Reason = "session_too_large" // for a part
	BadPart    Reason = "bad_part"          // it was refused: what the other region holds, or has sent, is damaged
)

// Install is a part of a partition's state to be taken in; Installed takes what came of it.
type Install struct {
	Part *peerpb.Part
	From string // region
}

// pull is the transfer of one partition's state: one part at a time, each when the one before is committed, so that live traffic
// goes on between them. How far it has come is kept by the region, so that who leads next goes on with it.
type pull struct {
	want  *peerpb.Pull
	busy  bool      // a part is being taken in
	retry time.Time // it is asked for again then
	vain  int       // how often it was asked for again in a row, and nothing came
	got   []byte    // the pieces of it that have come: MaxPart at most
}

// below begins a transfer, because a feed is not kept from our cursor on.
func (f *Follower) below(feed Feed, now time.Time) {
	f.drop(feed)
	f.event(BelowFloor, feed, nil)
	f.lacking |= 1 << feed.Partition
	f.pullNext(now)
}

// pullNext begins the transfers whose turn it is: those that clients wait for at once, with a place of their own.
func (f *Follower) pullNext(now time.Time) {
	for i := range 2 * crdt.Partitions {
		p := uint8(i % crdt.Partitions)
		first := f.first&(1<<p) != 0
		room := len(f.pulls) < maxPulls || first && len(f.pulls) == maxPulls
		if f.lacking&(1<<p) == 0 || f.pulls[p] != nil || first != (i < crdt.Partitions) || !room {
			continue
		}
		f.pulls[p] = &pull{}
		if resumed := f.ask(p, now); resumed {
			f.event(Resumed, Feed{Partition: p}, nil)
		}
	}
}

// ask asks for the part that is next, and reports whether the transfer was begun before. If all have come, the feeds start again:
// once the state is merged, they do so where it ends.
func (f *Follower) ask(p uint8, now time.Time) (resumed bool) {
	w, resumed, err := f.local.Pull(p, f.region)
	if w == nil || err != nil {
		f.pulled(p, err, now)
		return false
	}
	k := f.pulls[p]
	k.want, k.busy, k.retry, k.got = w, false, now.Add(pullTimeout), nil
	f.send(&peerpb.Want{Pull: []*peerpb.Pull{w}})
	return resumed
}

// asked is the transfer whose next part this is; nil: nobody waits for it.
func (f *Follower) asked(partition uint32, after string, since []byte) *pull {
	k := f.pulls[uint8(partition)]
	if partition >= crdt.Partitions || k == nil || k.busy || k.want.After != after || !bytes.Equal(k.want.Since, since) {
		f.event(NotNext, Feed{Partition: uint8(partition)}, nil)
		return nil
	}
	for _, k := range f.pulls { // what is asked does arrive; the others may have to wait for their turn
		k.vain = 0
	}
	return k
}

// Part takes a part of a state, if it is the one that was asked for.
func (f *Follower) Part(part *peerpb.Part, now time.Time) {
	k := f.asked(part.Partition, part.After, part.Since)
	switch {
	case k == nil:
	case part.Wait > 0:
		k.retry = now.Add(min(time.Duration(part.Wait)*time.Millisecond, pullTimeout))
	default:
		k.busy = true
		f.out = append(f.out, Action{Install: &Install{part, f.region}})
	}
}

// Piece takes some of a part, and the part when it is whole.
func (f *Follower) Piece(piece *peerpb.Piece, now time.Time) {
	k := f.asked(piece.Partition, piece.After, piece.Since)
	if k == nil {
		return
	}
	if piece.Off == 0 {
		k.got = nil // it was begun again
	}
	if end := piece.Off + uint64(len(piece.Data)); piece.Off != uint64(len(k.got)) || end > piece.Size || piece.Size > MaxPart {
		f.event(NotNext, Feed{Partition: uint8(piece.Partition)}, nil)
		return
	}
	k.got, k.retry = append(k.got, piece.Data...), now.Add(pullTimeout)
	if uint64(len(k.got)) < piece.Size {
		return
	}
	part := &peerpb.Part{}
	err := proto.Unmarshal(k.got, part)
	if k.got = nil; err != nil {
		f.event(BadPart, Feed{Partition: uint8(piece.Partition)}, err)
		k.retry = now.Add(badPause)
		return
	}
	f.Part(part, now)
}

// Installed takes what came of a part.
func (f *Follower) Installed(in *Install, err error, now time.Time) {
	p := uint8(in.Part.Partition)
	switch k := f.pulls[p]; {
	case errors.Is(err, wire.ErrPart): // it will be so the next time as well: what flows goes on
		f.event(BadPart, Feed{Partition: p}, err)
		k.busy, k.retry = false, now.Add(badPause)
	case err != nil:
		f.pulled(p, err, now)
	default:
		f.ask(p, now)
	}
}

// pulled ends a transfer over this stream: all has come, or it failed. The partition's feeds start again, soon; who is still below
// a floor then is told so again.
func (f *Follower) pulled(p uint8, err error, now time.Time) {
	asked := f.pulls[p].want != nil
	delete(f.pulls, p)
	f.lacking &^= 1 << p
	switch {
	case err != nil:
		f.event(NotPulled, Feed{Partition: p}, err)
	case asked: // else it had come before, and is being merged
		f.event(Pulled, Feed{Partition: p}, nil)
	}
	for _, o := range slices.Sorted(maps.Keys(f.origins)) {
		feed := Feed{o, p}
		f.feeds[feed] = &inflow{restart: now.Add(PullPause)}
		f.active[feed] = f.feeds[feed]
	}
	f.pullNext(now)
}

// late asks again for parts that have not come.
func (f *Follower) late(now time.Time) {
	for p := range uint8(crdt.Partitions) {
		if k := f.pulls[p]; k != nil && !k.busy && !now.Before(k.retry) {
			k.vain++
			f.ask(p, now)
		}
	}
}

// dumb reports that parts do not come however often they are asked for.
func (f *Follower) dumb() error {
	for p := range uint8(crdt.Partitions) {
		if k := f.pulls[p]; k != nil && k.vain > maxStuck {
			return fmt.Errorf("%w: the state of partition %d", ErrStuck, p)
		}
	}
	return nil
}

// duePull is when late has something to do; zero: nothing is planned.
func (f *Follower) duePull() (due time.Time) {
	for _, k := range f.pulls {
		if !k.busy && (due.IsZero() || k.retry.Before(due)) {
			due = k.retry
		}
	}
	return due
}

// pull takes it that a part is asked for. Of each partition the last such wish counts.
func (s *Sender) pull(w *peerpb.Pull) {
	if w.Partition >= crdt.Partitions || s.parts&(1<<w.Partition) == 0 {
		s.event(BadRequest, Feed{Partition: uint8(w.Partition)}, errors.New("the state of a partition that is not served over this stream"))
		return
	}
	if s.cutting != nil && s.cutting.want.Partition == w.Partition {
		s.cutting = nil
	}
	s.pulls = slices.DeleteFunc(s.pulls, func(o *peerpb.Pull) bool { return o.Partition == w.Partition })
	s.pulls = append(s.pulls, w)
}

// cutting is a part on its way in pieces.
type cutting struct {
	want *peerpb.Pull
	part []byte // encoded
	off  int
}

// nextPart returns a part that was asked for, nil if there is none, or it goes in pieces.
func (s *Sender) nextPart() (*peerpb.Have, error) {
	if len(s.pulls) == 0 || s.cutting != nil {
		return nil, nil
	}
	at := max(slices.IndexFunc(s.pulls, func(w *peerpb.Pull) bool { return s.first&(1<<w.Partition) != 0 }), 0)
	w := s.pulls[at]
	s.pulls = slices.Delete(s.pulls, at, at+1)
	part, err := s.local.Part(w, partBytes)
	if errors.Is(err, wire.ErrUnavailable) {
		return later(w, PullPause), nil
	}
	if err != nil {
		return nil, err
	}
	size := proto.Size(part)
	switch {
	case size > MaxPart:
		s.event(TooLarge, Feed{Partition: uint8(w.Partition)}, fmt.Errorf("session %q and those with it have %d bytes", part.Sessions[0].Name, size))
		return later(w, pullTimeout), nil
	case size <= s.Whole:
		return &peerpb.Have{Part: part}, nil
	}
	b, err := proto.Marshal(part)
	s.cutting = &cutting{want: w, part: b}
	return nil, err
}

// piece returns the next piece of a part.
func (s *Sender) piece() *peerpb.Have {
	c := s.cutting
	data := c.part[c.off:min(c.off+s.Whole, len(c.part))]
	p := &peerpb.Piece{
		Partition: c.want.Partition, After: c.want.After, Since: c.want.Since, Off: uint64(c.off), Size: uint64(len(c.part)), Data: data,
	}
	if c.off += len(data); c.off == len(c.part) {
		s.cutting = nil
	}
	return &peerpb.Have{Piece: p}
}

// later answers that a part cannot be had now. An answer that does not come at all shows that nothing arrives here.
func later(w *peerpb.Pull, wait time.Duration) *peerpb.Have {
	return &peerpb.Have{Part: &peerpb.Part{
		Partition: w.Partition, After: w.After, Since: w.Since, Wait: uint32(wait.Milliseconds()),
	}}
}

// below refuses a feed that is not kept from where it is to go on.
func (s *Sender) below(sub *subscription, why error) *peerpb.Have {
	s.end(sub.Feed)
	s.event(BelowFloor, sub.Feed, why)
	return &peerpb.Have{Refused: &peerpb.Refused{
		Origin: string(sub.Origin), Partition: uint32(sub.Partition), Floor: true, Why: why.Error(),
	}}
}
