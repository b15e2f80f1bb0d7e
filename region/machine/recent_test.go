package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// small is how much two of a pair of sites have at hand: less than what they write, and enough for some.
const small = 2 << 10

// TestRecentIsWhatTheStoreHas: whatever was put, taken in, cut off, jumped over, begun anew and loaded, a feed is read as it is from the store alone.
func TestRecentIsWhatTheStoreHas(t *testing.T) {
	for seed := range uint64(8) {
		dice := rand.New(rand.NewPCG(seed, 1))
		a, b := newSite(t, "a"), newSite(t, "b")
		a.recent.bound, b.recent.bound = small, small
		hits := 0
		a.remember()
		b.remember()
		for range 200 {
			one, other := a, b
			if dice.IntN(2) == 0 {
				one, other = b, a
			}
			switch at := dice.IntN(100); {
			case at < 50:
				one.say(three[dice.IntN(3)])
			case at < 85:
				one.take(other, dice.IntN(400))
			case at < 90:
				one.cut(dice.Uint64N(one.Cursors(7)[one.Self().ID()] + 2))
			case at < 93:
				one.do(&Command{Kind: KindRenew, Lost: one.Self(), Next: crdt.NewOrigin(one.cfg.Region, one.index+1)})
			case at < 95:
				one.goBack()
			default:
				one.mergeAll(other)
			}
			hits += one.sameFeeds(fmt.Sprintf("seed %d", seed), dice)
		}
		if hits == 0 {
			t.Errorf("seed %d: nothing was at hand", seed)
		}
		if t.Failed() {
			return
		}
	}
}

// remember keeps an image of a site.
func (s *site) remember() { s.image, s.imageIndex = s.store.Clone(), s.index }

// goBack puts back what was remembered, goes on under a new incarnation, and remembers that.
func (s *site) goBack() {
	s.t.Helper()
	*s.store = *s.image.Clone()
	if err := s.Load(); err != nil {
		s.t.Fatal(err)
	}
	later := s.index
	s.index = s.imageIndex
	s.do(&Command{Kind: KindRenew, Lost: s.Self(), Next: crdt.NewOrigin(s.cfg.Region, later+1)})
	s.remember()
}

// take takes in what another site has of its own feed, as far as there is room.
func (s *site) take(from *site, bytes int) {
	s.t.Helper()
	o := from.Self()
	rs, err := from.Feed(o, 7, s.Cursors(7)[o.ID()]+1, bytes)
	if err != nil || len(rs.Records) == 0 {
		return // cut off, or nothing is new
	}
	if res := s.do(&Command{Kind: KindIngest, Records: rs}); res.Err != nil {
		s.t.Fatal(res.Err)
	}
}

// mergeAll takes in all that another site holds, as a state.
func (s *site) mergeAll(from *site) {
	s.t.Helper()
	for range 100 {
		done, err := s.pull(from, from.cfg.Region)
		if err != nil && !errors.Is(err, wire.ErrUnavailable) {
			s.t.Fatal(err)
		}
		if done || err != nil {
			break
		}
	}
	for s.merge() {
	}
}

// sameFeeds reads all feeds from everywhere, as the machine does and from the store alone, and returns how many reads needed no store.
func (s *site) sameFeeds(when string, dice *rand.Rand) (hits int) {
	s.t.Helper()
	bare, err := New(Config{Region: s.cfg.Region, Store: s.store})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.recent.bytes > s.recent.bound {
		s.t.Errorf("%s: %d bytes are at hand", when, s.recent.bytes)
	}
	for _, o := range s.Origins() {
		head := s.Cursors(7)[o.ID()]
		for f := uint64(1); f <= head+2; f++ {
			bytes := dice.IntN(600)
			got, err := s.Feed(o, 7, f, bytes)
			want, err2 := bare.Feed(o, 7, f, bytes)
			if !reflect.DeepEqual(got, want) || fmt.Sprint(err) != fmt.Sprint(err2) {
				s.t.Errorf("%s: %s from %d, %d bytes: got %v, %v, want %v, %v", when, o, f, bytes, got, err, want, err2)
			}
			if f <= head && s.recent.read(&wire.Records{From: f}, feed{o.ID(), 7}, head, bytes) {
				hits++
			}
		}
	}
	return hits
}

// TestRecentForgets: what was forgotten is not kept by what follows it.
func TestRecentForgets(t *testing.T) {
	r, f := newRecent(small), feed{1, 7}
	var runs []*run
	for i := range uint64(100) {
		one := &run{from: i + 1, records: [][]byte{append(r.room(80), make([]byte, 80)...)}}
		r.add(f, one)
		runs = append(runs, one)
	}
	held := 0
	for at := r.of(f).last.Load(); at != nil; at = at.older.Load() {
		held++
	}
	if want := small / (runCost + recordCost + 80); held != want {
		t.Errorf("%d runs are held, want %d", held, want)
	}
	for _, one := range runs[:len(runs)-held] {
		if one.older.Load() != nil || one.newer != nil || one.next != nil {
			t.Fatal("a run that was forgotten leads to others")
		}
	}
	rs := wire.Records{From: 98}
	if !r.read(&rs, f, 99, 1000) || rs.Last() != 99 {
		t.Errorf("read up to %d, want 99, which is as far as is told of", rs.Last())
	}
	for range held {
		r.forget()
	}
	if r.of(f).last.Load() != nil || r.newest != nil || r.bytes != 0 {
		t.Errorf("%d bytes are held of nothing", r.bytes)
	}
}

// TestRecentIsOfOneState: what a machine has at hand goes with the state that it is of.
func TestRecentIsOfOneState(t *testing.T) {
	a := newSite(t, "a")
	a.remember()
	a.say(three[0])
	*a.store, a.index = *a.image, a.imageIndex
	if err := a.Load(); err != nil {
		t.Fatal(err)
	}
	if a.recent.of(feed{a.Self().ID(), 7}) != nil || a.recent.oldest != nil {
		t.Error("something is at hand of the state before")
	}
	a.say(three[1])
	a.sameFeeds("after another state was loaded", rand.New(rand.NewPCG(1, 1)))
}
