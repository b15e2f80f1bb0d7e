package region

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// ends are the own origins of a region, closed where they are now, but for some ops less.
func (s *started) ends(selfs []crdt.Origin, less uint64) (all []wire.Final) {
	for p := range uint8(crdt.Partitions) {
		o := selfs[s.of(p).n]
		if f := s.Cursors(p)[o.ID()]; f > 0 {
			all = append(all, wire.Final{Origin: o, Partition: p, F: f - min(f, less)})
		}
	}
	return all
}

// evict has a region of several groups number something, and be evicted.
func (s *started) evict(t *testing.T) (selfs []crdt.Origin) {
	t.Helper()
	s.raised(t)
	s.putMany(t, "a", 100)
	bound := uint64(0)
	for _, g := range s.all() {
		for look := time.NewTicker(10 * time.Millisecond); !g.fsm.Born(); {
			<-look.C
		}
		selfs = append(selfs, g.fsm.Self())
		bound = max(bound, g.fsm.Self().Incarnation())
	}
	if err := s.Evict(t.Context(), "beijing", crdt.Eviction{Bound: bound}); err != nil {
		t.Fatal(err)
	}
	for _, g := range s.all() {
		if !g.fsm.Fenced() {
			t.Errorf("group %d goes on as %s", g.n, g.fsm.Self())
		}
	}
	if e := s.put(t, "alice/trip", msg("late", "x")); !errors.Is(e.Refused, wire.ErrEvicted) {
		t.Errorf("a put is answered with %v", e.Refused)
	}
	return selfs
}

// TestEvictedRegionComesBack: the others have all that it holds, so each of its groups goes on under a later incarnation.
func TestEvictedRegionComesBack(t *testing.T) {
	s := startWith(t, Config{Region: "beijing", Node: "n1", Dir: t.TempDir(), Groups: 4})
	selfs := s.evict(t)
	if err := s.CloseOrigins(t.Context(), s.ends(selfs, 0)); err != nil {
		t.Fatal(err)
	}
	bound := s.Evictions(0)["beijing"].Bound
	for range 4 {
		if err := s.Renew(t.Context(), "", bound, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for p := range uint8(crdt.Partitions) {
		if s.Region.Self(p).Incarnation() <= bound || s.Evictions(p).Out("beijing") {
			t.Errorf("partition %d is issued as %s, given up is %x: %v", p, s.Region.Self(p), bound, s.Evictions(p))
		}
	}
	if e := s.put(t, "alice/trip", msg("late", "x")); e.Refused != nil {
		t.Error(e.Refused)
	}
}

// TestEvictedGroupsComeBackByThemselves: a group whose numbers the others have closed comes back, and no other one with it: of that it is not known yet
// what it holds beyond.
func TestEvictedGroupsComeBackByThemselves(t *testing.T) {
	s := startWith(t, Config{Region: "beijing", Node: "n1", Dir: t.TempDir(), Groups: 4})
	selfs := s.evict(t)
	closed := s.all()[2]
	ends := slices.DeleteFunc(s.ends(selfs, 0), func(f wire.Final) bool { return s.of(f.Partition) != closed })
	if err := s.CloseOrigins(t.Context(), ends); err != nil || len(ends) == 0 {
		t.Fatal(len(ends), err)
	}
	for range 4 {
		if err := s.Renew(t.Context(), "", s.Evictions(0)["beijing"].Bound, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range s.all() {
		if g.fsm.Fenced() != (g != closed) {
			t.Errorf("group %d: %q", g.n, g.fsm.Self())
		}
	}
}

// TestBackAboveWhatWasGivenUp: a group comes back above all that it knows to be given up, whatever whoever has it do so knew, and whatever the clock
// shows.
func TestBackAboveWhatWasGivenUp(t *testing.T) {
	s := startWith(t, Config{Region: "beijing", Node: "n1", Dir: t.TempDir()})
	selfs := s.evict(t)
	bound := s.Evictions(0)["beijing"].Bound + 1<<40 // some minutes from now
	if err := errors.Join(s.Evict(t.Context(), "beijing", crdt.Eviction{Bound: bound}), s.CloseOrigins(t.Context(), s.ends(selfs, 0)),
		s.Renew(t.Context(), "", 0, "test")); err != nil {
		t.Fatal(err)
	}
	if now := s.Region.Self(0); now.Incarnation() <= bound || s.Evictions(0).Out("beijing") {
		t.Errorf("it goes on as %q, and up to %016x was given up: %v", now, bound, s.Evictions(0))
	}
}

// TestGroupsComeBackAboveWhatAnyGroupKnows: what one group has heard to be given up the others hear too, and would have to come back once more.
func TestGroupsComeBackAboveWhatAnyGroupKnows(t *testing.T) {
	s := startWith(t, Config{Region: "beijing", Node: "n1", Dir: t.TempDir(), Groups: 4})
	selfs := s.evict(t)
	bound := s.Evictions(0)["beijing"].Bound + 1<<40 // some minutes from now
	c := &machine.Command{Kind: machine.KindEvict, Peer: "beijing", Eviction: crdt.Eviction{Bound: bound}}
	if _, err := s.all()[3].do(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.CloseOrigins(t.Context(), s.ends(selfs, 0)), s.Renew(t.Context(), "", 0, "test")); err != nil {
		t.Fatal(err)
	}
	if now := s.Region.Self(0); now.Incarnation() <= bound {
		t.Errorf("the first group goes on as %q, and up to %016x was given up", now, bound)
	}
}

// TestEvictedRegionHoldsMore: what the others have closed without it is not merged: the node leaves, and does not start again.
func TestEvictedRegionHoldsMore(t *testing.T) {
	cfg := Config{Region: "beijing", Node: "n1", Dir: t.TempDir(), Groups: 4}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &started{Region: r, events: make(chan wire.Event, 10_000)}
	r.Watch(func(evs []wire.Event) {
		for _, e := range evs {
			s.events <- e
		}
	})
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	<-r.Ready()
	selfs := s.evict(t)
	if err := s.CloseOrigins(t.Context(), s.ends(selfs, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "was evicted") {
		t.Errorf("it leaves with %v", err)
	}
	_ = r.Close() // it has failed
	if r, err := New(cfg); err == nil || !strings.Contains(err.Error(), "was evicted") {
		if err == nil {
			r.Close()
		}
		t.Errorf("it starts again: %v", err)
	}
}
