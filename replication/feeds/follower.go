package feeds

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Forks remembers which feeds were found to have two contents, over all links of a node.
type Forks map[Feed]time.Time

func (f Forks) recent(feed Feed, now time.Time) bool {
	at, ok := f[feed]
	return ok && now.Sub(at) < ForkPause
}

// Follower takes in the feeds of some partitions that come over one stream from another region, while that lives. The
// partitions are of one group of the own region.
type Follower struct {
	region  string // whom it follows
	local   Local
	parts   uint64 // partitions, a bit each
	forks   Forks
	feeds   map[Feed]*inflow
	active  map[Feed]*inflow              // of feeds, those that something is under way in
	origins map[crdt.Origin]bool          // that are followed
	stuck   map[Feed]int                  // how often they were started again in vain
	pulls   map[uint8]*pull               // of partitions' states
	lacking uint64                        // partitions whose states are to be pulled, a bit each
	heads   []*peerpb.Head                // of the other region, as last heard
	names   map[crdt.OriginID]crdt.Origin // of origins that are, or were, followed
	brief   bool                          // the other region names origins by id, and understands that
	epoch   uint64                        // own, as last said
	first   uint64                        // partitions that clients wait for, a bit each, as last said
	theirs  uint64                        // the other region's, as last heard
	evicted []*peerpb.Evicted             // regions that the other one knows to have been given up
	out     []Action
}

// inflow is one feed on its way in: what has arrived, in order, and is not yet committed.
type inflow struct {
	frontier wire.Position // after the last of queue; before it, the cursor
	queue    []*Batch
	busy     bool      // the first of queue is being committed
	changed  bool      // something of the partition was applied since
	retry    time.Time // the first of queue waits for causes until then; zero: it does not
	restart  time.Time // the feed starts again then; zero: it does not
	still    time.Time // since then heads have shown more than the frontier, which has not moved; zero: it is not so
	seen     uint64
}

// NewFollower is for a new stream from a region, of some partitions, a bit each. Forks is shared with the followers that the
// node had for these partitions before.
func NewFollower(region string, local Local, forks Forks, partitions uint64) *Follower {
	return &Follower{
		region: region, local: local, parts: partitions, forks: forks, feeds: map[Feed]*inflow{}, active: map[Feed]*inflow{},
		origins: map[crdt.Origin]bool{}, stuck: map[Feed]int{}, pulls: map[uint8]*pull{},
		names: map[crdt.OriginID]crdt.Origin{},
	}
}

// Take returns what is to be done, in order.
func (f *Follower) Take() []Action {
	out := f.out
	f.out = nil
	return out
}

func (f *Follower) send(w *peerpb.Want) {
	if e := Epoch(f.local, f.parts); e != f.epoch || len(w.Subscribe) > 0 {
		w.Epoch, f.epoch = e, e
	}
	f.out = append(f.out, Action{Send: w})
}

func (f *Follower) event(r Reason, feed Feed, why error) {
	f.out = append(f.out, Action{Event: &Event{r, feed, why}})
}

// Heads learns how far the other region is, and decides anew which origins to follow over this stream. nil: it is as far as it
// was. up are the regions whose streams live.
func (f *Follower) Heads(h *peerpb.Heads, up map[string]bool, now time.Time) error {
	if err := checkHeads(h); err != nil {
		return err
	}
	if h != nil {
		f.heads, f.theirs = merge(f.heads, h), h.Epoch
		if h.Whole || len(h.Evicted) > 0 {
			f.evicted = h.Evicted
		}
	}
	if f.settle() {
		f.unfollow()
		return nil
	}
	up = f.living(up)
	for _, head := range f.heads {
		if err := f.consider(crdt.Origin(head.Origin), head.F, up, now); err != nil {
			return err
		}
	}
	return f.dumb()
}

// checkHeads refuses heads that no region sends; nil is well.
func checkHeads(h *peerpb.Heads) error {
	for _, head := range h.GetHeads() {
		if _, err := feedOf(head.Origin, 0); err != nil || len(head.F) > crdt.Partitions || len(head.Final) > crdt.Partitions {
			return fmt.Errorf("%w: heads of %q", ErrMessage, head.Origin)
		}
	}
	for _, e := range h.GetEvicted() {
		if !crdt.ValidRegion(e.Region) {
			return fmt.Errorf("%w: eviction of %q", ErrMessage, e.Region)
		}
		if err := CheckEpochs(e.Bound, e.Back); err != nil {
			return err
		}
	}
	return CheckEpochs(h.GetEpoch())
}

// Prefer has some partitions, a bit each, come before others: clients wait for what is in them.
func (f *Follower) Prefer(partitions uint64, now time.Time) {
	if partitions &= f.parts; partitions == f.first {
		return
	}
	f.first = partitions
	f.send(&peerpb.Want{First: &partitions})
	f.pullNext(now)
}

// living leaves out the regions that were given up: what they have issued comes from others.
func (f *Follower) living(up map[string]bool) map[string]bool {
	ev, some := f.local.Evictions(firstOf(f.parts)), map[string]bool{}
	for region, is := range up {
		some[region] = is && !ev.Out(region)
	}
	return some
}

// unfollow leaves all feeds alone.
func (f *Follower) unfollow() {
	for _, o := range slices.Sorted(maps.Keys(f.origins)) {
		f.unsubscribe(o)
	}
}

// has reports whether a partition is one of those that are followed.
func (f *Follower) has(p uint8) bool { return f.parts&(1<<p) != 0 }

// ErrStuck ends a stream on which nothing comes however often it is asked for: what is asked does not arrive.
var ErrStuck = errors.New("what was asked for again does not come")

// follows decides whether an origin's feeds come over the link from a region: from its home while that is up, else
// from any region that has more than we do. Our own current incarnation is never followed.
func follows(origin, self crdt.Origin, from string, up map[string]bool, ahead bool) bool {
	switch {
	case origin == self:
		return false
	case origin.Region() == from:
		return true
	case up[origin.Region()]:
		return false
	}
	return ahead
}

func (f *Follower) consider(o crdt.Origin, heads []uint64, up map[string]bool, now time.Time) error {
	id, self := o.ID(), f.local.Self(firstOf(f.parts))
	ahead := false
	for p, head := range heads {
		ahead = ahead || f.has(uint8(p)) && head > f.local.Cursors(uint8(p))[id]
	}
	if o == self && ahead {
		f.out = append(f.out, Action{Renew: &Renew{Lost: self, Why: "region " + f.region + " holds more of our feed than we do"}})
		return nil
	}
	if err := f.unstick(o, heads, now); err != nil {
		return err
	}
	want, have, relayed := follows(o, self, f.region, up, ahead), f.origins[o], o.Region() != f.region
	switch {
	case want && !have:
		f.subscribe(o, now)
	case !want && have && (!relayed || up[o.Region()]):
		f.unsubscribe(o)
	}
	return nil
}

// unstick starts feeds again that stand still although the peer has more.
func (f *Follower) unstick(o crdt.Origin, heads []uint64, now time.Time) error {
	for p, head := range heads {
		feed := Feed{o, uint8(p)}
		in := f.feeds[feed]
		switch {
		case in == nil:
		case head <= in.frontier.F || len(in.queue) > 0 || in.frontier.F != in.seen:
			in.still, in.seen = time.Time{}, in.frontier.F
		case in.still.IsZero():
			in.still = now
		default:
			if now.Sub(in.still) >= staleAfter {
				in.still = time.Time{}
				if f.stuck[feed]++; f.stuck[feed] > maxStuck {
					return fmt.Errorf("%w: %s", ErrStuck, feed)
				}
				f.again(feed, in, errors.New("it stands still although the source has more"), now)
			}
		}
	}
	return nil
}

func (f *Follower) subscribe(o crdt.Origin, now time.Time) {
	w := &peerpb.Want{}
	for p := range uint8(crdt.Partitions) {
		if !f.has(p) {
			continue
		}
		if sub := f.start(Feed{o, p}, now); sub != nil {
			w.Subscribe = append(w.Subscribe, sub)
		}
	}
	f.origins[o], f.names[o.ID()] = true, o
	f.send(w)
}

// start begins a feed at the cursor, and returns how to ask for it.
func (f *Follower) start(feed Feed, now time.Time) *peerpb.Subscribe {
	if f.forks.recent(feed, now) {
		return nil
	}
	cursor := f.local.Cursors(feed.Partition)[feed.Origin.ID()]
	pos, ok := f.local.Position(feed.Origin, feed.Partition, cursor)
	if !ok {
		f.event(NoPosition, feed, fmt.Errorf("the record at our own cursor %d is not held", cursor))
		return nil
	}
	f.drop(feed)
	f.feeds[feed] = &inflow{frontier: pos}
	return &peerpb.Subscribe{
		Origin: string(feed.Origin), Partition: uint32(feed.Partition), F: pos.F, Hash: pos.Hash[:],
	}
}

func (f *Follower) drop(feed Feed) {
	delete(f.feeds, feed)
	delete(f.active, feed)
}

func (f *Follower) unsubscribe(o crdt.Origin) {
	w := &peerpb.Want{}
	delete(f.origins, o)
	for p := range uint8(crdt.Partitions) {
		if !f.has(p) {
			continue
		}
		f.drop(Feed{o, p})
		w.Subscribe = append(w.Subscribe, &peerpb.Subscribe{Origin: string(o), Partition: uint32(p), Stop: true})
	}
	f.send(w)
}

// Records takes records that follow the frontier, and drops others: after a new start, what was on its way for the old
// one comes first. note comes back with the batch that is to be committed. After an error the stream is of no more use.
func (f *Follower) Records(r *peerpb.Records, note any) error {
	f.Named(r)
	feed, err := feedOf(r.Origin, r.Partition)
	if err != nil || !hashed(r) {
		return fmt.Errorf("%w: records of %q", ErrMessage, r.Origin)
	}
	rs := wire.Records{Origin: feed.Origin, Partition: feed.Partition, From: r.From, Records: r.Records}
	in := f.feeds[feed]
	if in == nil || !in.restart.IsZero() || rs.From > in.frontier.F+1 {
		f.event(NotNext, feed, nil)
		return nil
	}
	if rs.Last() <= in.frontier.F {
		return nil // it came ahead, or for a start before this one
	}
	if !f.queued(in, since(rs, in.frontier.F), r.Hash, note) {
		err := fmt.Errorf("%s: records do not hash to what was announced: %w", feed, wire.ErrFork)
		f.event(BadHash, feed, err)
		return err
	}
	return nil
}

// Named gives records whose origin goes by id its name.
func (f *Follower) Named(r *peerpb.Records) {
	if r.Origin == "" {
		f.brief, r.Origin = true, string(f.names[crdt.OriginID(r.Id)])
	}
}

// hashed reports whether a message has records, and a hash after them or the beginning of one.
func hashed(r *peerpb.Records) bool {
	return len(r.Records) > 0 && len(r.Hash) >= briefHash && len(r.Hash) <= len(wire.Hash{})
}

// queued has records that follow the frontier committed, unless they do not hash to what was announced, which may be the beginning
// of the hash only.
func (f *Follower) queued(in *inflow, rs wire.Records, announced []byte, note any) bool {
	pieces := inPieces(in.frontier.Hash, rs, note)
	hash := pieces[len(pieces)-1].Hash
	if !bytes.HasPrefix(hash[:], announced) {
		return false
	}
	feed := Feed{rs.Origin, rs.Partition}
	in.frontier = wire.Position{F: rs.Last(), Hash: hash}
	in.queue = append(in.queue, pieces...)
	delete(f.stuck, feed)
	f.active[feed] = in
	f.next(in)
	return true
}

// inPieces divides records that follow a hash into what is committed at a time: what clients put goes in between. The note is
// the last one's.
func inPieces(hash wire.Hash, rs wire.Records, note any) (all []*Batch) {
	piece := &Batch{Records: wire.Records{Origin: rs.Origin, Partition: rs.Partition, From: rs.From}}
	size := 0
	for i, r := range rs.Records {
		hash = hash.Next(r)
		piece.Records.Records = append(piece.Records.Records, r)
		if size += len(r); size >= pieceBytes || len(piece.Records.Records) >= pieceRecords || i == len(rs.Records)-1 {
			piece.Hash = hash
			all = append(all, piece)
			piece, size = &Batch{Records: wire.Records{Origin: rs.Origin, Partition: rs.Partition, From: piece.Last() + 1}}, 0
		}
	}
	all[len(all)-1].Note = note
	return all
}

// next commits what is first, if nothing is under way. The sender bounds what can be queued: it stops when too much is
// not acknowledged.
func (f *Follower) next(in *inflow) {
	if len(in.queue) == 0 || in.busy || !in.retry.IsZero() {
		return
	}
	in.busy, in.changed = true, false
	f.out = append(f.out, Action{Commit: in.queue[0]})
}

// ack acknowledges a feed. An origin goes by id only where records have come so: then it is known there which feed is meant.
func (f *Follower) ack(feed Feed, cursor uint64) *peerpb.Ack {
	a := &peerpb.Ack{Partition: uint32(feed.Partition), F: cursor}
	if f.brief {
		a.Id = uint32(feed.Origin.ID())
	} else {
		a.Origin = string(feed.Origin)
	}
	return a
}

// Done takes what came of a commit: the feed's cursor, which is acknowledged, or why there was none.
func (f *Follower) Done(b *Batch, cursor uint64, err error, now time.Time) {
	feed := b.feed()
	if err == nil {
		f.send(&peerpb.Want{Ack: []*peerpb.Ack{f.ack(feed, cursor)}})
	}
	in := f.feeds[feed]
	if in == nil || len(in.queue) == 0 || in.queue[0] != b {
		return // the feed has started again since
	}
	in.busy = false
	switch {
	case err != nil:
		f.again(feed, in, err, now)
	case cursor >= b.Last():
		if in.queue = in.queue[1:]; len(in.queue) == 0 {
			delete(f.active, feed)
		}
		f.next(in)
	case in.changed: // its causes may have come meanwhile
		f.next(in)
	default:
		in.retry = now.Add(HoldRetry)
	}
}

// again has a feed start anew from the cursor, soon: what became of a proposal is not known, or it did not fit.
func (f *Follower) again(feed Feed, in *inflow, why error, now time.Time) {
	if errors.Is(why, wire.ErrFork) {
		f.forked(feed, why, now)
		return
	}
	f.event(Rewind, feed, why)
	in.queue, in.retry, in.restart = nil, time.Time{}, now.Add(RewindPause)
	f.active[feed] = in
}

func (f *Follower) forked(feed Feed, why error, now time.Time) {
	f.event(Fork, feed, why)
	f.forks[feed] = now
	f.drop(feed)
}

// Refused takes it that the other side does not send a feed.
func (f *Follower) Refused(r *peerpb.Refused, now time.Time) error {
	feed, err := feedOf(r.Origin, r.Partition)
	switch {
	case err != nil:
	case !f.origins[feed.Origin] || !f.has(feed.Partition): // it is not asked for, or not any more
		f.event(NotNext, feed, nil)
	case r.Floor:
		f.below(feed, now)
	default:
		f.forked(feed, errors.New(r.Why), now)
	}
	return err
}

// Applied tries the records again that waited for causes in these partitions, a bit each.
func (f *Follower) Applied(partitions uint64) {
	if partitions == 0 {
		return
	}
	for _, feed := range f.sorted() {
		if in := f.feeds[feed]; partitions&(1<<feed.Partition) != 0 {
			in.changed, in.retry = true, time.Time{}
			f.next(in)
		}
	}
}

// Tick does what is due.
func (f *Follower) Tick(now time.Time) {
	f.late(now)
	for _, feed := range f.sorted() {
		in := f.feeds[feed]
		switch {
		case !in.restart.IsZero() && !now.Before(in.restart):
			if sub := f.start(feed, now); sub != nil {
				f.send(&peerpb.Want{Subscribe: []*peerpb.Subscribe{sub}})
			} else {
				f.drop(feed)
			}
		case !in.retry.IsZero() && !now.Before(in.retry):
			in.retry = time.Time{}
			f.next(in)
		}
	}
}

// Due is when Tick has something to do; zero: nothing is planned.
func (f *Follower) Due() (due time.Time) {
	due = f.duePull()
	for _, in := range f.active {
		for _, at := range []time.Time{in.restart, in.retry} {
			if !at.IsZero() && (due.IsZero() || at.Before(due)) {
				due = at
			}
		}
	}
	return due
}

// sorted returns the feeds that something is under way in, in a fixed order.
func (f *Follower) sorted() []Feed {
	return slices.SortedFunc(maps.Keys(f.active), func(a, b Feed) int {
		return cmp.Or(strings.Compare(string(a.Origin), string(b.Origin)), cmp.Compare(a.Partition, b.Partition))
	})
}
