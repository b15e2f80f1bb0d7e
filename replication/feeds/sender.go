package feeds

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// batchBytes is about what one message holds.
	batchBytes = 256 << 10
	// MaxInFlight bounds the bytes that are sent and not acknowledged, over one stream.
	MaxInFlight = 8 << 20
)

// briefHash is how much of the hash after them goes with records in brief. It is a check on mistakes: the follower hashes what it
// gets, and all of the hash is compared whenever a feed starts.
const briefHash = 4

// Sender serves feeds of some partitions to one other region, over one stream, while that lives. It keeps a number per feed and what is in
// flight: the log is the queue.
type Sender struct {
	// Whole is up to how many bytes a part of a state goes in one message.
	Whole int

	region   string // of who asks
	theirs   uint64 // its incarnation, as last said
	local    Local
	parts    uint64 // partitions that are served, a bit each
	subs     [crdt.Partitions][]*subscription
	dirty    uint64 // partitions that may have something to send
	round    turns
	inFlight int
	refused  []*peerpb.Refused
	pulls    []*peerpb.Pull // parts of states that are asked for, one a partition at most
	cutting  *cutting       // the part that goes in pieces; nil: none does
	pieced   bool           // the last message was a piece: records go before the next
	first    uint64         // partitions that go before others, a bit each
	out      []Action
	names    map[crdt.OriginID]crdt.Origin // of origins that were asked for
	// Brief has records and acknowledgements name origins by id: for a region that understands it.
	Brief bool
}

// subscription is a feed that the other region follows.
type subscription struct {
	Feed
	id     crdt.OriginID
	next   uint64 // the f to send next
	sent   []sent // not acknowledged
	queued bool   // in round
	ended  bool
}

type sent struct {
	last  uint64
	bytes int
}

// NewSender is for a new stream to a region, of some partitions, a bit each: this node leads their groups.
func NewSender(region string, local Local, partitions uint64) *Sender {
	return &Sender{
		Whole: wholeBytes, region: region, local: local, parts: partitions, names: map[crdt.OriginID]crdt.Origin{},
	}
}

// Take returns what is to be done, in order: events and a new incarnation only.
func (s *Sender) Take() []Action {
	out := s.out
	s.out = nil
	return out
}

// Want takes what the other region asks for and acknowledges. ack is told of each cursor.
func (s *Sender) Want(w *peerpb.Want, ack func(Feed, uint64)) {
	if w.Epoch != 0 {
		s.theirs = w.Epoch
	}
	if s.local.Evictions(firstOf(s.parts)).Void(s.region, s.theirs) {
		s.event(Evicted, Feed{}, fmt.Errorf("region %s was evicted, and has not begun anew", s.region))
		return
	}
	for _, sub := range w.Subscribe {
		f, err := feedOf(sub.Origin, sub.Partition)
		if err == nil && s.parts&(1<<f.Partition) == 0 {
			err = fmt.Errorf("%w: partition %d was not asked for when the stream began", ErrMessage, f.Partition)
		}
		if err != nil {
			s.event(BadRequest, f, err)
			continue
		}
		s.subscribe(f, sub)
	}
	if w.First != nil {
		s.prefer(*w.First)
	}
	for _, k := range w.Pull {
		s.pull(k)
	}
	for _, a := range w.Ack {
		f, err := s.acked(a)
		if err != nil {
			s.event(BadRequest, f, err)
			continue
		}
		ack(f, a.F)
		s.ack(f, a.F)
	}
}

func (s *Sender) event(r Reason, f Feed, why error) {
	s.out = append(s.out, Action{Event: &Event{r, f, why}})
}

func (s *Sender) subscribe(f Feed, w *peerpb.Subscribe) {
	fork := !w.Stop && s.compare(f, w)
	s.end(f)
	switch {
	case w.Stop:
	case fork:
		s.refused = append(s.refused, &peerpb.Refused{
			Origin: w.Origin, Partition: w.Partition, Fork: true, Why: "the running hash differs at the cursor",
		})
	default:
		s.names[f.Origin.ID()] = f.Origin
		s.subs[f.Partition] = append(s.subs[f.Partition], &subscription{Feed: f, id: f.Origin.ID(), next: w.F + 1})
		s.dirty |= 1 << f.Partition
	}
}

// end forgets a subscription.
func (s *Sender) end(f Feed) {
	s.subs[f.Partition] = slices.DeleteFunc(s.subs[f.Partition], func(sub *subscription) bool {
		if sub.Feed != f {
			return false
		}
		for _, p := range sub.sent {
			s.inFlight -= p.bytes
		}
		sub.ended = true
		return true
	})
}

// compare holds a peer's cursor against what is held here, and reports a fork. A peer that has more of our own
// incarnation than we do, or something else, shows that we lost data: we go on under a new one.
func (s *Sender) compare(f Feed, w *peerpb.Subscribe) (fork bool) {
	head, why := s.local.Cursors(f.Partition)[f.Origin.ID()], ""
	if w.F > head {
		why = fmt.Sprintf("region %s holds more of our feed than we do", s.region)
	} else if pos, ok := s.local.Position(f.Origin, f.Partition, w.F); ok && string(pos.Hash[:]) != string(w.Hash) {
		why, fork = fmt.Sprintf("region %s holds something else at a position of our feed", s.region), true
		s.event(Fork, f, fmt.Errorf("the feeds differ at %d: %w", w.F, wire.ErrFork))
	}
	if why != "" && f.Origin == s.local.Self(f.Partition) {
		s.out = append(s.out, Action{Renew: &Renew{Lost: f.Origin, Why: why}})
	}
	return fork
}

func (s *Sender) find(f Feed) *subscription {
	for _, sub := range s.subs[f.Partition] {
		if sub.Feed == f {
			return sub
		}
	}
	return nil
}

// acked is the feed that an acknowledgement is of.
func (s *Sender) acked(a *peerpb.Ack) (Feed, error) {
	if a.Origin != "" || a.Partition >= crdt.Partitions {
		return feedOf(a.Origin, a.Partition)
	}
	o, ok := s.names[crdt.OriginID(a.Id)]
	if !ok {
		return Feed{}, fmt.Errorf("%w: acknowledgement of a feed that was not asked for", ErrMessage)
	}
	return Feed{o, uint8(a.Partition)}, nil
}

func (s *Sender) message(rs *wire.Records, id crdt.OriginID) *peerpb.Records {
	m := &peerpb.Records{Partition: uint32(rs.Partition), From: rs.From, Records: rs.Records, Hash: rs.Hash[:]}
	if s.Brief {
		m.Id, m.Hash = uint32(id), rs.Hash[:briefHash]
	} else {
		m.Origin = string(rs.Origin)
	}
	return m
}

func (s *Sender) ack(f Feed, cursor uint64) {
	sub := s.find(f)
	if sub == nil {
		return
	}
	for len(sub.sent) > 0 && sub.sent[0].last <= cursor {
		s.inFlight -= sub.sent[0].bytes
		sub.sent = sub.sent[1:]
	}
	s.dirty |= 1 << f.Partition
}

// Committed marks partitions, a bit each, in which there may be something to send.
func (s *Sender) Committed(partitions uint64) { s.dirty |= partitions }

// Next returns what to send next, nil if there is nothing or the other region has to keep up first. The feeds take turns,
// a batch each, so that none waits for another.
func (s *Sender) Next() (*peerpb.Have, error) {
	if len(s.refused) > 0 {
		r := s.refused[0]
		s.refused = s.refused[1:]
		return &peerpb.Have{Refused: r}, nil
	}
	if part, err := s.nextPart(); part != nil || err != nil {
		return part, err
	}
	if s.pieced = !s.pieced; s.cutting != nil && s.pieced {
		return s.piece(), nil
	}
	rs, err := s.records()
	if rs == nil && err == nil && s.cutting != nil {
		s.pieced = true
		return s.piece(), nil
	}
	return rs, err
}

// records returns records of the feed whose turn it is, nil if there are none.
func (s *Sender) records() (*peerpb.Have, error) {
	for s.turn() {
		sub := s.round.take()
		if sub.ended {
			continue
		}
		rs, err := s.batch(sub)
		if errors.Is(err, wire.ErrFloor) {
			return s.below(sub, err), nil
		}
		if err != nil {
			return nil, err
		}
		if len(rs.Records) > 0 {
			s.queue(sub) // there may be more
			return &peerpb.Have{Records: s.message(&rs, sub.id)}, nil
		}
	}
	return nil, nil
}

// turn sees to it that there is a feed whose turn it is. Those that nothing is to be sent of do not wait for one: a region that has begun anew often
// has many.
func (s *Sender) turn() bool {
	if s.inFlight >= MaxInFlight {
		return false // an ack wakes us
	}
	for ; s.dirty != 0; s.dirty &= s.dirty - 1 {
		p := uint8(bits.TrailingZeros64(s.dirty))
		have := s.local.Cursors(p)
		for _, sub := range s.subs[p] {
			if sub.next <= have[sub.id] {
				s.queue(sub)
			}
		}
	}
	return s.round.some()
}

func (s *Sender) batch(sub *subscription) (wire.Records, error) {
	if sub.next > s.local.Cursors(sub.Partition)[sub.id] {
		return wire.Records{}, nil
	}
	rs, err := s.local.Feed(sub.Origin, sub.Partition, sub.next, batchBytes)
	if err != nil || len(rs.Records) == 0 {
		return wire.Records{}, err
	}
	size := 0
	for _, r := range rs.Records {
		size += len(r)
	}
	sub.next = rs.Last() + 1
	sub.sent = append(sub.sent, sent{rs.Last(), size})
	s.inFlight += size
	return rs, nil
}
