package machine

import (
	"errors"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

func (s *site) close(o crdt.Origin, f uint64) {
	s.t.Helper()
	if err := s.do(&Command{Kind: KindClose, Finals: []wire.Final{{Origin: o, Partition: 7, F: f}}}).Err; err != nil {
		s.t.Fatal(err)
	}
}

// TestClosed: of an origin that is closed nothing is taken in above its end, until that rises to what another region holds.
func TestClosed(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	for range 3 {
		a.say(three[0])
	}
	o, id := a.Self(), a.Self().ID()
	rs, err := a.Feed(o, 7, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b.told = nil
	b.close(o, 2)
	if len(b.told) != 1 || wire.Touched(b.told) != 1<<7 {
		t.Errorf("told %+v", b.told)
	}
	if res := b.do(&Command{Kind: KindIngest, Records: rs}); res.Err != nil || res.Cursor != 2 {
		t.Errorf("up to the end: %d, %v", res.Cursor, res.Err)
	}
	b.close(o, 1)
	if b.Finals(7)[id] != 2 {
		t.Error("an end went back")
	}
	b.close(o, 3)
	if res := b.do(&Command{Kind: KindIngest, Records: rs}); res.Err != nil || res.Cursor != 3 {
		t.Errorf("after the end has risen: %d, %v", res.Cursor, res.Err)
	}
	again, err := New(Config{Region: "b", Store: b.store})
	if err != nil || again.Finals(7)[id] != 3 {
		t.Errorf("after a start: %v, %v", again.Finals(7), err)
	}
	b.same(a)
}

// TestEndRises: who holds more than was closed says so, and so does who takes more in with another's state. What it issues itself is not
// closed before it has ended.
func TestEndRises(t *testing.T) {
	a, b, c := newSite(t, "a"), newSite(t, "b"), newSite(t, "c")
	for range 4 {
		a.say(three[0])
	}
	feedTo(b, a, false)
	o, id := a.Self(), a.Self().ID()
	if b.close(o, 1); b.Finals(7)[id] != 4 {
		t.Errorf("closed at %d, and four are held", b.Finals(7)[id])
	}
	c.close(o, 1)
	for range 8 {
		if done, err := c.pull(b, "b"); err != nil {
			t.Fatal(err)
		} else if done {
			break
		}
	}
	for c.merge() {
	}
	if c.Cursors(7)[id] != 4 || c.Finals(7)[id] != 4 {
		t.Errorf("by a transfer it has %d, and the end is %d", c.Cursors(7)[id], c.Finals(7)[id])
	}
	if a.close(o, 1); len(a.Finals(7)) != 0 {
		t.Errorf("the living incarnation is closed: %v", a.Finals(7))
	}
}

func (s *site) refusal() error {
	s.t.Helper()
	s.told = nil
	s.do(&Command{Kind: KindPut, Session: three[0], Entry: "", Tag: 1, Ops: []*crdt.Op{{Kind: crdt.KindMsg, Session: three[0], OID: "late", Text: "x"}}})
	return s.told[0].Refused
}

// TestEvicted: a region that is given up numbers nothing more under what it had, and begins anew above that: at once if the others have all
// that it holds, and never if not.
func TestEvicted(t *testing.T) {
	for _, held := range []uint64{2, 3} {
		a := newSite(t, "a")
		for range held {
			a.say(three[0])
		}
		o := a.Self()
		a.do(&Command{Kind: KindEvict, Peer: "a", Eviction: crdt.Eviction{Bound: o.Incarnation()}})
		if err := a.refusal(); a.Self() != "" || !a.Fenced() || !errors.Is(err, wire.ErrEvicted) {
			t.Fatalf("it issues as %q, and answers %v", a.Self(), err)
		}
		if a.MustRenew(false) {
			t.Error("it begins anew without having asked the others")
		}
		a.close(o, 2)
		beyond := held - 2
		if a.Beyond() != beyond || a.Finals(7)[o.ID()] != 2 {
			t.Errorf("%d are beyond the end %d", a.Beyond(), a.Finals(7)[o.ID()])
		}
		again, err := New(Config{Region: "a", Store: a.store})
		if err != nil || !again.Fenced() || again.Beyond() != beyond {
			t.Errorf("after a start: %t, %d, %v", again.Fenced(), again.Beyond(), err)
		}
		a.do(&Command{Kind: KindRenew, Next: crdt.NewOrigin("a", 9)})
		if back := beyond == 0; a.Fenced() == back || back != (a.Self() == crdt.NewOrigin("a", 9)) || back == a.Evictions().Out("a") {
			t.Errorf("with %d beyond the end it is %q, evicted: %t", beyond, a.Self(), a.Evictions().Out("a"))
		}
	}
}

// TestComesBackAboveWhatWasGivenUpMeanwhile: more may be given up between the proposal of an incarnation and its commit. It would number under one that
// nobody takes anything from, and nothing would end that.
func TestComesBackAboveWhatWasGivenUpMeanwhile(t *testing.T) {
	a := newSite(t, "a")
	a.say(three[0])
	o := a.Self()
	a.do(&Command{Kind: KindEvict, Peer: "a", Eviction: crdt.Eviction{Bound: o.Incarnation()}})
	a.close(o, 1)
	a.do(&Command{Kind: KindEvict, Peer: "a", Eviction: crdt.Eviction{Bound: 9}})
	if a.do(&Command{Kind: KindRenew, Next: crdt.NewOrigin("a", 9)}); !a.Fenced() {
		t.Errorf("it goes on as %q, which was given up: %v", a.Self(), a.Evictions())
	}
	if a.do(&Command{Kind: KindRenew, Next: crdt.NewOrigin("a", 10)}); a.Fenced() || a.Evictions().Out("a") || a.refusal() != nil {
		t.Errorf("it is %q: %v", a.Self(), a.Evictions())
	}
}

// TestEvictedBefore: a region that is under a later incarnation when it hears that it was given up is back; others are only noted.
func TestEvictedBefore(t *testing.T) {
	for _, born := range []uint64{1, 6} {
		a := newSite(t, "a")
		if born == 1 {
			a.do(&Command{Kind: KindBorn})
		}
		a.do(&Command{Kind: KindRenew, Lost: a.Self(), Next: crdt.NewOrigin("a", 6)})
		a.do(&Command{Kind: KindBorn})
		a.evictedBefore(born == 6)
	}
}

// evictedBefore: whatever it is under by now, a state that began before the eviction does not count.
func (a *site) evictedBefore(after bool) {
	t := a.t
	t.Helper()
	a.do(&Command{Kind: KindEvict, Peer: "a", Eviction: crdt.Eviction{Bound: 5}})
	a.do(&Command{Kind: KindEvict, Peer: "b", Eviction: crdt.Eviction{Bound: 8}})
	ev := a.Evictions()
	want := crdt.Eviction{Bound: 6}
	if after {
		want = crdt.Eviction{Bound: 5, Back: 6}
	}
	if a.Fenced() == after || ev["a"] != want || !ev.Out("b") {
		t.Errorf("%+v, fenced: %t", ev, a.Fenced())
	}
	if err := a.refusal(); (err == nil) != after {
		t.Error(err)
	}
}
