package feeds

import (
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// empty is a region that holds nothing.
type empty struct{ self crdt.Origin }

func (e empty) Self(uint8) crdt.Origin    { return e.self }
func (empty) Cursors(p uint8) crdt.Vector { return crdt.Vector{} }
func (empty) Position(o crdt.Origin, p uint8, f uint64) (wire.Position, bool) {
	return wire.Position{Hash: wire.FeedStart(o, p)}, f == 0
}
func (empty) Feed(crdt.Origin, uint8, uint64, int) (wire.Records, error) { return wire.Records{}, nil }
func (empty) Part(*peerpb.Pull, int) (*peerpb.Part, error)               { return nil, wire.ErrUnavailable }
func (empty) Level() uint32                                              { return 5 }
func (empty) Pull(uint8, string) (*peerpb.Pull, bool, error)             { return nil, false, nil }
func (e empty) Home() string                                             { return e.self.Region() }
func (empty) OriginsOf(uint8) []crdt.Origin                              { return nil }
func (empty) Finals(uint8) crdt.Finals                                   { return nil }
func (empty) Evictions(uint8) crdt.Evictions                             { return nil }

// TestOnlyThePartitionsThatAreAsked: a follower asks for no others, a sender serves no others, heads show no others.
func TestOnlyThePartitionsThatAreAsked(t *testing.T) {
	const some = 0xf0
	beijing, shanghai := empty{crdt.NewOrigin("beijing", 1)}, empty{crdt.NewOrigin("shanghai", 1)}
	if all := Heads(shanghai, []crdt.Origin{shanghai.self, beijing.self}, some).Heads; len(all) != 1 || all[0].Origin != string(shanghai.self) {
		t.Errorf("heads of %v: only who issues there has any", all)
	}
	f := NewFollower("shanghai", beijing, Forks{}, some)
	h := &peerpb.Heads{Heads: []*peerpb.Head{{Origin: string(shanghai.self), F: make([]uint64, crdt.Partitions)}}}
	if err := f.Heads(h, map[string]bool{"shanghai": true}, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	var asked uint64
	for _, a := range f.Take() {
		for _, sub := range a.Send.GetSubscribe() {
			asked |= 1 << sub.Partition
		}
	}
	if asked != some {
		t.Errorf("it asks for %016x", asked)
	}
	h.Heads[0] = &peerpb.Head{Origin: string(beijing.self), F: []uint64{5}}
	if err := f.Heads(h, nil, time.Unix(1, 0)); err != nil || len(f.Take()) != 0 {
		t.Errorf("what a peer holds of ours in partition 0 is another follower's business: %v", err)
	}
	s := NewSender("beijing", shanghai, some)
	s.Want(&peerpb.Want{Subscribe: []*peerpb.Subscribe{{Origin: string(shanghai.self), Partition: 3, F: 7}}}, nil)
	if out := s.Take(); len(out) != 1 || out[0].Event == nil || out[0].Event.Reason != BadRequest {
		t.Errorf("a subscription of a partition that is not served: %+v", out)
	}
}
