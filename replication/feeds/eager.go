package feeds

import (
	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// EagerLoss is from which share of datagrams lost on records are sent as such too.
	EagerLoss = 0.003
	// minMeasured is how many datagrams that must have been measured on.
	minMeasured = 32
	// MaxEager bounds the records of a datagram, in bytes.
	MaxEager = 900
	// again is how many records go with the next datagram too.
	again = 3
	// maxBehind is how many records of a feed may be new at once: more is no conversation but a load, which the stream carries as
	// well.
	maxBehind = 16
)

// Eager decides which records go ahead of the stream, as datagrams: those of the own feed that have just been committed, one
// datagram of them a feed. The zero value begins with what is committed next.
type Eager struct {
	next [crdt.Partitions]uint64
	self [crdt.Partitions]crdt.Origin
}

// Committed returns the records to send of partitions in which something was committed, a bit each, and how many records were not
// sent because they were too large or too many. Nothing is sent while send is false.
func (e *Eager) Committed(local Local, partitions uint64, send bool) (all []*peerpb.Records, passed int) {
	for p := range uint8(crdt.Partitions) {
		if partitions&(1<<p) == 0 {
			continue
		}
		self := local.Self(p)
		head, from := local.Cursors(p)[self.ID()], e.next[p]
		e.next[p] = head + 1
		if e.self[p] != self {
			e.self[p], from = self, 0
		}
		if !send || from == 0 || head < from {
			continue
		}
		n := int(head - from + 1)
		if n > maxBehind {
			passed += n
			continue
		}
		rs := withBefore(local, Feed{self, p}, from, head)
		if len(rs.Records) == 0 {
			passed += n
			continue
		}
		last := max(head, rs.Last()) // more may have been committed since head was read
		passed += int(last - rs.Last())
		e.next[p] = last + 1
		all = append(all, &peerpb.Records{
			Origin: string(self), Partition: uint32(p), From: rs.From, Records: rs.Records, Hash: rs.Hash[:],
		})
	}
	return all, passed
}

// withBefore returns records of a feed from one on, as many as a datagram has room for, with some that come before, which went with
// the last datagrams: if one of these was lost, this one makes good for it.
func withBefore(local Local, f Feed, from, head uint64) wire.Records {
	first := from - min(from-1, again)
	rs, err := local.Feed(f.Origin, f.Partition, first, MaxEager)
	if err == nil && rs.Last() < head && first < from {
		rs, err = local.Feed(f.Origin, f.Partition, from, MaxEager)
	}
	size := 0
	for _, r := range rs.Records {
		size += len(r)
	}
	if err != nil || size > MaxEager || len(rs.Records) == 0 || rs.Last() < from {
		return wire.Records{}
	}
	return rs
}

// Outcome is what became of records that came ahead of the stream; a metric's label.
type Outcome string

// The outcomes.
const (
	Taken      Outcome = "taken"
	Known      Outcome = "known"       // the stream was faster
	Early      Outcome = "early"       // what comes before is missing
	NoFeed     Outcome = "no_feed"     // not followed from there, or about to start again
	BadRecords Outcome = "bad_records" // not well formed, or of another hash
)

// maxAhead bounds what of a feed may wait here to be committed, in batches, when more comes ahead of the stream. The stream has a
// bound of its own.
const maxAhead = 64

// Eager takes records that came as a datagram, if they follow the frontier exactly. The stream brings them again, and then they are
// known; what is dropped here costs nothing but time.
func (f *Follower) Eager(r *peerpb.Records, note any) Outcome {
	feed, err := feedOf(r.Origin, r.Partition)
	if err != nil || !hashed(r) {
		return BadRecords
	}
	rs := wire.Records{Origin: feed.Origin, Partition: feed.Partition, From: r.From, Records: r.Records}
	in := f.feeds[feed]
	switch {
	case in == nil || !in.restart.IsZero() || feed.Origin.Region() != f.region || len(in.queue) >= maxAhead:
		return NoFeed
	case rs.Last() <= in.frontier.F:
		return Known
	case rs.From > in.frontier.F+1:
		return Early
	case !f.queued(in, since(rs, in.frontier.F), r.Hash, note):
		return BadRecords
	}
	return Taken
}

// since is what of some records comes after f, which is one of them or the one before.
func since(rs wire.Records, f uint64) wire.Records {
	rs.Records, rs.From = rs.Records[f+1-rs.From:], f+1
	return rs
}
