package feeds

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// encoded are messages as seeds of a fuzz test.
func encoded(f *testing.F, all ...proto.Message) {
	f.Helper()
	for _, m := range all {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// reading is a follower of shanghai in beijing that waits for a part of partition 3, and for records.
func reading() (*Follower, crdt.Origin) {
	local, o := &cut{empty: empty{crdt.NewOrigin("beijing", 1)}, come: []*peerpb.Pull{{Partition: 3, After: "u/1"}}}, crdt.NewOrigin("shanghai", 1)
	f := NewFollower("shanghai", local, Forks{}, All)
	f.subscribe(o, aDay)
	f.below(Feed{o, 3}, aDay)
	f.Take()
	return f, o
}

// take gives a follower a message, as its link does.
func take(f *Follower, have *peerpb.Have) error {
	switch {
	case Beating(have):
		return f.Heads(have.Heads, map[string]bool{"shanghai": true}, aDay)
	case have.Refused != nil:
		return f.Refused(have.Refused, aDay)
	case have.Part != nil:
		f.Part(have.Part, aDay)
	case have.Piece != nil:
		f.Piece(have.Piece, aDay)
	case have.Records != nil:
		return f.Records(have.Records, nil)
	case have.Bundle != nil:
		Lengthen(have.Bundle.Records)
		for _, r := range have.Bundle.Records {
			f.Eager(r, nil)
			if err := f.Records(r, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// FuzzHave: whatever another region says, it is taken or refused, and starts nothing that is not under way.
func FuzzHave(f *testing.F) {
	_, o := reading()
	rs := &peerpb.Records{Origin: string(o), Partition: 4, From: 1, Records: [][]byte{{1}}, Hash: make([]byte, len(wire.Hash{}))}
	encoded(f, &peerpb.Have{Heads: &peerpb.Heads{Epoch: 1, Heads: []*peerpb.Head{{Origin: string(o), F: []uint64{1, 2}, Final: []uint64{1}}},
		Evicted: []*peerpb.Evicted{{Region: "chengdu", Bound: 3, Back: 4}}, Whole: true}},
		&peerpb.Have{Records: rs}, &peerpb.Have{Bundle: &peerpb.Bundle{Records: []*peerpb.Records{rs, {Id: uint32(o.ID()), Records: rs.Records, Hash: rs.Hash}}}},
		&peerpb.Have{Refused: &peerpb.Refused{Origin: string(o), Partition: 9, Floor: true}},
		&peerpb.Have{Refused: &peerpb.Refused{Origin: string(crdt.NewOrigin("chengdu", 1)), Partition: 9, Fork: true}},
		&peerpb.Have{Part: &peerpb.Part{Partition: 3, After: "u/1", Last: true}},
		&peerpb.Have{Piece: &peerpb.Piece{Partition: 3, After: "u/1", Size: 3, Data: []byte{1, 2, 3}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		have := &peerpb.Have{}
		if proto.Unmarshal(b, have) != nil {
			return
		}
		fo, _ := reading()
		followed := map[Feed]bool{}
		for feed := range fo.feeds {
			followed[feed] = true
		}
		err := take(fo, have)
		for feed := range fo.forks {
			if !followed[feed] {
				t.Errorf("a fork is remembered of %s, which was not followed", feed)
			}
		}
		if err == nil {
			fo.Applied(All)
			fo.Tick(aDay.Add(ForkPause))
		}
	})
}

// FuzzWant: whatever another region asks for, it is served or refused.
func FuzzWant(f *testing.F) {
	w := &writer{empty: empty{crdt.NewOrigin("beijing", 1)}}
	w.write([]byte{1})
	first := uint64(9)
	encoded(f, &peerpb.Want{Epoch: 1, First: &first, Subscribe: []*peerpb.Subscribe{{Origin: string(w.self), Hash: make([]byte, 16)}}},
		&peerpb.Want{Ack: []*peerpb.Ack{{Origin: string(w.self), F: 1}, {Id: 7}}, Pull: []*peerpb.Pull{{Partition: 3, After: "u/1"}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		want := &peerpb.Want{}
		if proto.Unmarshal(b, want) != nil {
			return
		}
		local := &cut{empty: w.empty}
		s := NewSender("shanghai", local, All)
		s.Want(want, func(feed Feed, _ uint64) {
			if feed.Partition >= crdt.Partitions {
				t.Errorf("an acknowledgement of %s", feed)
			}
		})
		for range 3 * len(want.Subscribe) {
			if _, err := s.Next(); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzGossip: whatever a datagram says, it is taken or refused, and no region begins anew under an incarnation that leaves no room for a later one.
func FuzzGossip(f *testing.F) {
	a := newFar("beijing", 5, aDay)
	encoded(f, &peerpb.Gossip{From: "shanghai/n1", Run: 1, Seq: 1, Led: All, Stamp: 1, Hears: []uint32{1}, Echo: &peerpb.Echo{Stamp: 1, Held: 1, Lost: 1, Of: 2},
		Rows: []*peerpb.Row{{Region: "beijing", Epoch: 6, Parts: 1 << 2, F: []uint64{3}}, {Region: "chengdu", Epoch: 1, Origin: uint32(a.self.ID()), F: []uint64{1}}}})
	encoded(f, &peerpb.Gossip{From: "shanghai/n1", Rows: []*peerpb.Row{{Region: "beijing", Epoch: 1<<64 - 1, Parts: 1, F: []uint64{3}}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &peerpb.Gossip{}
		if proto.Unmarshal(b, d) != nil {
			return
		}
		r := newFar("beijing", 5, aDay)
		_, lost, _ := r.g.Take(&r.m, d, All, aDay)
		for _, l := range lost {
			if next := crdt.NextIncarnation(aDay, 0, l.Above); next <= l.Above || next <= r.self.Incarnation() {
				t.Errorf("after %016x comes %016x", l.Above, next)
			}
		}
		r.g.Tick(&r.m, r.view([]crdt.Origin{r.self}), aDay)
		r.g.Ways(aDay)
	})
}
