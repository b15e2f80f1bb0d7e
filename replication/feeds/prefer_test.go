package feeds

import (
	"slices"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// full is a region with five records in every partition, of which a batch has one.
type full struct{ empty }

func (f full) Cursors(uint8) crdt.Vector { return crdt.Vector{f.self.ID(): 5} }
func (f full) Feed(o crdt.Origin, p uint8, from uint64, _ int) (wire.Records, error) {
	return wire.Records{Origin: o, Partition: p, From: from, Records: [][]byte{{1}}}, nil
}
func (full) Part(w *peerpb.Pull, _ int) (*peerpb.Part, error) {
	return &peerpb.Part{Partition: w.Partition, Last: true}, nil
}

// TestWhatIsWaitedForComesFirst: records and parts of partitions that are asked for first go before all others, until they are not any
// more, and the others take turns as ever.
func TestWhatIsWaitedForComesFirst(t *testing.T) {
	s := NewSender("beijing", full{empty{crdt.NewOrigin("shanghai", 1)}}, All)
	want := &peerpb.Want{}
	for p := range uint32(6) {
		want.Subscribe = append(want.Subscribe, &peerpb.Subscribe{Origin: string(crdt.NewOrigin("shanghai", 1)), Partition: p})
		want.Pull = append(want.Pull, &peerpb.Pull{Partition: p})
	}
	for _, sub := range want.Subscribe {
		hash := wire.FeedStart(crdt.NewOrigin("shanghai", 1), uint8(sub.Partition))
		sub.Hash = hash[:]
	}
	first := uint64(1 << 4)
	want.First = &first
	s.Want(want, nil)
	next := func(n int) (records, parts []uint32) {
		for range n {
			have, err := s.Next()
			switch {
			case err != nil || have == nil:
				t.Fatalf("%v, %v", have, err)
			case have.Part != nil:
				parts = append(parts, have.Part.Partition)
			default:
				records = append(records, have.Records.Partition)
			}
		}
		return records, parts
	}
	if _, parts := next(6); !slices.Equal(parts, []uint32{4, 0, 1, 2, 3, 5}) {
		t.Errorf("states of %v", parts)
	}
	if records, _ := next(7); !slices.Equal(records, []uint32{4, 4, 4, 4, 4, 0, 1}) {
		t.Errorf("records of %v", records)
	}
	first = 1
	s.Want(&peerpb.Want{First: &first}, nil)
	if records, _ := next(6); !slices.Equal(records, []uint32{0, 0, 0, 0, 2, 3}) {
		t.Errorf("then records of %v", records)
	}
}

// TestFollowerPrefers: it is said once what comes first, of the partitions that it follows; a state that is waited for is pulled although as
// many as may be are under way.
func TestFollowerPrefers(t *testing.T) {
	const some = 0xfff
	now, o := time.Unix(1, 0), crdt.NewOrigin("shanghai", 1)
	beijing := &cut{empty: empty{crdt.NewOrigin("beijing", 1)}, come: []*peerpb.Pull{{}}}
	f := NewFollower("shanghai", beijing, Forks{}, some)
	for p := range uint8(12) {
		f.below(Feed{o, p}, now)
	}
	said(f)
	if len(f.pulls) != maxPulls {
		t.Fatalf("%d states are pulled at once", len(f.pulls))
	}
	f.Prefer(1<<9|1<<10|1<<20, now)
	f.Prefer(1<<9|1<<10|1<<20, now)
	wants, _, _ := said(f)
	if len(wants) != 2 || wants[0].GetFirst() != 1<<9|1<<10 || len(wants[1].Pull) != 1 || f.pulls[9] == nil || len(f.pulls) != maxPulls+1 {
		t.Fatalf("it wants %v, and pulls %d states", wants, len(f.pulls))
	}
	f.Prefer(0, now)
	if wants, _, _ = said(f); len(wants) != 1 || wants[0].First == nil || *wants[0].First != 0 {
		t.Errorf("in the end it says %v", wants)
	}
}

// lived is a region with many incarnations, of which the last alone has numbered anything since it was asked.
type lived struct {
	empty
	have crdt.Vector
}

func (l lived) Cursors(uint8) crdt.Vector { return l.have }
func (l lived) Feed(o crdt.Origin, p uint8, from uint64, _ int) (wire.Records, error) {
	return wire.Records{Origin: o, Partition: p, From: from, Records: [][]byte{{1}}}, nil
}

// TestManyLivesDoNotWaitInTurn: feeds that have nothing to send do not wait for a turn, however many a region has: each turn would cost as much as there are.
func TestManyLivesDoNotWaitInTurn(t *testing.T) {
	l := lived{have: crdt.Vector{}}
	s, want := NewSender("beijing", &l, All), &peerpb.Want{}
	const lives = 300
	last := crdt.NewOrigin("shanghai", lives)
	for i := range lives {
		o := crdt.NewOrigin("shanghai", uint64(i+1))
		l.have[o.ID()] = 7
		for p := range uint32(crdt.Partitions) {
			want.Subscribe = append(want.Subscribe, &peerpb.Subscribe{Origin: string(o), Partition: p, F: 7})
		}
	}
	s.Want(want, nil)
	l.have[last.ID()]++
	s.Committed(All)
	if !s.turn() || len(s.round.others) != crdt.Partitions || len(s.round.first) != 0 {
		t.Fatalf("of %d feeds %d and %d wait for their turn", lives*crdt.Partitions, len(s.round.first), len(s.round.others))
	}
	for p := range uint32(crdt.Partitions) {
		have, err := s.Next()
		if err != nil || have.GetRecords().GetOrigin() != string(last) || have.Records.Partition != p {
			t.Fatalf("%v, %v", have, err)
		}
	}
	if have, err := s.Next(); have != nil || err != nil {
		t.Errorf("and then %v, %v", have, err)
	}
}
