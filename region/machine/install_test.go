package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// site is a region with a log of its own.
type site struct {
	*Machine
	t     *testing.T
	store *Mem
	index uint64
	clock crdt.Clock
	told  []wire.Event

	image      *Mem // to go back to
	imageIndex uint64
}

func newSite(t *testing.T, name string) *site {
	s := &site{t: t, store: NewMem()}
	m, err := New(Config{Region: name, Store: s.store, Watch: func(ev []wire.Event) { s.told = append(s.told, ev...) }})
	if err != nil {
		t.Fatal(err)
	}
	s.Machine = m
	s.do(&Command{Kind: KindRenew, Next: crdt.NewOrigin(name, 1)})
	return s
}

func (s *site) do(c *Command) Result {
	s.t.Helper()
	c.Stamp(&s.clock, time.UnixMilli(1_700_000_000_000))
	s.index++
	res, err := s.Apply(s.index, EncodeEntry([][]byte{c.Encode()}), false)
	if err != nil {
		s.t.Fatal(err)
	}
	return res[0]
}

// three are sessions of one partition.
var three = func() (all []string) {
	for i := 0; len(all) < 3; i++ {
		if name := fmt.Sprintf("u/%d", i); crdt.PartitionOf(name) == 7 {
			all = append(all, name)
		}
	}
	return all
}()

func (s *site) say(session string) wire.Record {
	s.t.Helper()
	op := &crdt.Op{Kind: crdt.KindMsg, Session: session, OID: fmt.Sprintf("%s-%d", s.Self(), s.index), Text: "x", User: "u"}
	s.do(&Command{Kind: KindPut, Session: session, Ops: []*crdt.Op{op}})
	rs, err := s.Feed(s.Self(), 7, s.Cursors(7)[s.Self().ID()], 1)
	if err != nil {
		s.t.Fatal(err)
	}
	rec, err := wire.DecodeRecord(rs.Records[0])
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}

// cut drops a site's own feed up to a position.
func (s *site) cut(f uint64) {
	s.do(&Command{Kind: KindFloor, Floors: []Floor{{7, s.Self().ID(), f}}})
}

// pull takes the next part from another site, and reports whether all have come.
func (s *site) pull(from *site, name string) (done bool, err error) {
	s.t.Helper()
	w, _, err := s.Pull(7, name)
	if err != nil {
		s.t.Fatal(err)
	}
	if w == nil {
		return true, nil
	}
	part, err := from.Part(w, 1)
	if err != nil {
		return false, err
	}
	return false, s.do(&Command{Kind: KindInstall, Part: part, From: name}).Err
}

// merge goes on with merging, and reports whether there was anything to do.
func (s *site) merge() bool {
	s.t.Helper()
	c, err := s.Merge(1)
	if err != nil {
		s.t.Fatal(err)
	}
	if c != nil {
		if res := s.do(c); res.Err != nil {
			s.t.Error(res.Err)
		}
	}
	return c != nil
}

func (s *site) same(o *site) {
	s.t.Helper()
	a, err := s.Digest(7)
	b, err2 := o.Digest(7)
	sum, err3 := s.Recompute(7)
	if err := errors.Join(err, err2, err3); err != nil || a != b || a != sum {
		s.t.Errorf("digests %x and %x, recomputed %x, %v", a, b, sum, err)
	}
}

func TestFeedBelowItsFloor(t *testing.T) {
	a := newSite(t, "a")
	for range 5 {
		a.say(three[0])
	}
	at, _ := a.Position(a.Self(), 7, 3)
	a.cut(3)
	a.cut(2) // a floor does not go back
	if _, err := a.Feed(a.Self(), 7, 3, 1<<20); !errors.Is(err, wire.ErrFloor) {
		t.Errorf("records below the floor: %v", err)
	}
	if rs, err := a.Feed(a.Self(), 7, 4, 1<<20); err != nil || len(rs.Records) != 2 {
		t.Errorf("records above the floor: %d, %v", len(rs.Records), err)
	}
	if pos, ok := a.Position(a.Self(), 7, 3); !ok || pos != at || a.Floor(a.Self(), 7) != at {
		t.Errorf("the position at the floor is %v, %t", pos, ok)
	}
	if _, ok := a.Position(a.Self(), 7, 2); ok {
		t.Error("a position below the floor is known")
	}
	a.cut(100)
	if rs, err := a.Feed(a.Self(), 7, 6, 1<<20); err != nil || len(rs.Records) != 0 {
		t.Errorf("records above the head: %d, %v", len(rs.Records), err)
	}
	if a.say(three[0]); a.Floor(a.Self(), 7).F != 5 {
		t.Errorf("the floor is %d", a.Floor(a.Self(), 7).F)
	}
}

// TestFloors: what all have goes, but for some slack, and what some lack goes when there is too much of it.
func TestFloors(t *testing.T) {
	for _, c := range []struct {
		keep              Retention
		cursor, acked, to uint64
	}{
		{Retention{0, 0}, 100, 40, 40}, {Retention{0, 10}, 100, 40, 30}, {Retention{0, 10}, 100, 5, 0}, {Retention{0, 0}, 100, 400, 100},
		{Retention{70, 10}, 100, 0, 30}, {Retention{70, 10}, 100, 90, 80}, {Retention{200, 10}, 100, 0, 0},
	} {
		if to := c.keep.floor(c.cursor, c.acked); to != c.to {
			t.Errorf("%+v of %d, acknowledged %d: %d", c.keep, c.cursor, c.acked, to)
		}
	}
}

// TestTransferIsOfOneMoment: sessions change while they come, on both sides, and in the end all is as if feeds had brought it.
func TestTransferIsOfOneMoment(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	for _, session := range three {
		a.say(session)
		b.say(session)
	}
	a.cut(3)
	for i := 0; ; i++ {
		done, err := b.pull(a, "a")
		if err != nil {
			t.Fatal(err)
		}
		if done {
			break
		}
		if i < 5 {
			a.say(three[i%3])
			b.say(three[i%3])
		}
		if len(b.Cursors(7)) != 1 {
			t.Fatal("cursors have moved before all had come")
		}
	}
	if tr, err := b.Transfers(); err != nil || len(tr) != 1 || !tr[0].Complete || tr[0].Passes == 0 {
		t.Errorf("the transfer is %+v, %v", tr, err)
	}
	want := a.Cursors(7)[a.Self().ID()]
	b.merge()
	if rec := b.say(three[2]); rec.Deps[a.Self().ID()] != want {
		t.Errorf("what is numbered in between depends on %v", rec.Deps)
	}
	if _, err := b.Part(&peerpb.Pull{Partition: 7}, 1); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("a part in between: %v", err)
	}
	for b.merge() {
		if _, ok := b.Position(a.Self(), 7, want); ok && b.Cursors(7)[a.Self().ID()] == 0 {
			t.Error("a position is known before the cursor is there")
		}
	}
	if got := b.Cursors(7)[a.Self().ID()]; got != want || b.Floor(a.Self(), 7).F != want {
		t.Errorf("the cursor is %d of %d", got, want)
	}
	rs, err := b.Feed(b.Self(), 7, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if res := a.do(&Command{Kind: KindIngest, Records: rs}); res.Err != nil || res.Cursor != rs.Last() {
		t.Errorf("got %+v", res)
	}
	b.same(a)
	if lo, hi := []byte{spaceInstall}, []byte{spaceStage + 1}; b.count(lo, hi) != 0 {
		t.Error("something is left of the transfer")
	}
}

func (s *site) count(lo, hi []byte) (n int) {
	_ = s.store.Scan(lo, hi, false, func([]byte, []byte) bool { n++; return true })
	return n
}

// TestTransferFromOneThatLostSome: what a region has lost in the middle of a transfer leaves no trace.
func TestTransferFromOneThatLostSome(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	a.say(three[0])
	a.say(three[1])
	image, index := a.store.Clone(), a.index
	a.say(three[0])
	if done, err := b.pull(a, "a"); done || err != nil {
		t.Fatal(done, err)
	}
	*a.store, a.index = *image, index
	if err := a.Load(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pull(a, "a"); !errors.Is(err, wire.ErrGap) {
		t.Errorf("got %v", err)
	}
	if n := b.count([]byte{spaceInstall}, []byte{spaceStage + 1}); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	for done := false; !done; {
		var err error
		if done, err = b.pull(a, "a"); err != nil {
			t.Fatal(err)
		}
	}
	for b.merge() {
	}
	b.same(a)
}

// TestPartsThatDoNotFit are refused, whatever comes twice or late.
func TestPartsThatDoNotFit(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	for _, session := range three {
		a.say(session)
	}
	w, _, _ := b.Pull(7, "a")
	first, err := a.Part(w, 1)
	if err != nil {
		t.Fatal(err)
	}
	install := func(p *peerpb.Part) error { return b.do(&Command{Kind: KindInstall, Part: p, From: "a"}).Err }
	if err := install(&peerpb.Part{Partition: 7, After: three[0], Last: true}); !errors.Is(err, wire.ErrGap) {
		t.Errorf("a transfer begins in the middle: %v", err)
	}
	if err := install(first); err != nil {
		t.Fatal(err)
	}
	if err := install(first); !errors.Is(err, wire.ErrGap) {
		t.Errorf("a part came twice: %v", err)
	}
	for _, p := range []*peerpb.Part{
		nil, {Partition: 64, Last: true}, {Partition: 7}, {Partition: 8, Last: true, Sessions: first.Sessions},
		{Partition: 7, Last: true, Vector: []*peerpb.Mark{{Origin: "x"}}}, {Partition: 7, Last: true, Since: []byte{1}},
	} {
		if err := install(p); err == nil {
			t.Errorf("%v is taken", p)
		}
	}
}

// TestDamagedSessionsAreRefused: of a part that no node could merge nothing gets into the log.
func TestDamagedSessionsAreRefused(t *testing.T) {
	a := newSite(t, "a")
	a.say(three[0])
	part, err := a.Part(&peerpb.Pull{Partition: 7}, 1)
	if err != nil || CheckSessions(part) != nil {
		t.Fatal(err, CheckSessions(part))
	}
	ses := part.Sessions[0]
	ses.Values[len(ses.Values)-1] = []byte{0xff}
	if err := CheckSessions(part); !errors.Is(err, wire.ErrPart) || !errors.Is(err, crdt.ErrCorrupt) {
		t.Errorf("a damaged element: %v", err)
	}
	if err := CheckSessions(&peerpb.Part{Sessions: []*peerpb.Session{{Name: "u/1\x00x"}}}); !errors.Is(err, wire.ErrPart) {
		t.Errorf("a name with a separator in it: %v", err)
	}
}
