package region

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// TestTrimAndTransfer: feeds are cut, also over a restart, and what is below goes to another region as a whole.
func TestTrimAndTransfer(t *testing.T) {
	t.Parallel() // it waits, mostly
	for _, groups := range []int{1, 4} {
		t.Run(fmt.Sprint(groups), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := Config{Region: "beijing", Node: "n1", Dir: dir, Groups: groups, FeedOps: 3}
			a := startWith(t, cfg)
			a.raised(t)
			p := crdt.PartitionOf("alice/trip")
			for i := range 10 {
				a.put(t, "alice/trip", msg(fmt.Sprint(i), "text"))
			}
			none := func(crdt.Origin, uint8) uint64 { return 0 }
			if err := a.Trim(t.Context(), ^uint64(0), none); err != nil {
				t.Fatal(err)
			}
			self := a.Region.Self(p)
			a.stop()
			a = startWith(t, cfg)
			if _, err := a.Feed(self, p, 7, 1<<20); !errors.Is(err, wire.ErrFloor) {
				t.Errorf("a record below the floor: %v", err)
			}
			if rs, err := a.Feed(self, p, 8, 1<<20); err != nil || len(rs.Records) != 3 {
				t.Errorf("records above the floor: %d, %v", len(rs.Records), err)
			}
			st := a.Status(t.Context())
			if st.Floors[string(self)][int(p)] != 7 || len(st.Transfers) != 0 {
				t.Errorf("status has floors %v, transfers %v", st.Floors, st.Transfers)
			}
			b := start(t, "shanghai", t.TempDir())
			b.raised(t)
			b.take(t, a, p)
			sameState(t, a, b, []string{"alice/trip"})
			if got := b.Cursors(p)[self.ID()]; got != 10 {
				t.Errorf("the cursor is %d", got)
			}
		})
	}
}

// raised waits until feeds may be cut, and states taken in.
func (s *started) raised(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for s.level() < machine.FloorLevel {
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("the region is at level %d", s.level())
		}
	}
}

// take takes a partition's state from another region, and waits until it is merged.
func (s *started) take(t *testing.T, from *started, p uint8) {
	t.Helper()
	for {
		w, _, err := s.Pull(p, from.cfg.Region)
		if err != nil {
			t.Fatal(err)
		}
		if w == nil {
			break
		}
		part, err := from.Part(w, 1)
		if err == nil {
			err = s.Install(t.Context(), part, from.cfg.Region)
		}
		if err != nil {
			t.Fatal(err)
		}
		if part.Last && part.After == "" {
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case e := <-s.events:
			if len(e.Jumps) > 0 {
				return
			}
		case <-ctx.Done():
			t.Fatal("the state is not merged")
		}
	}
}
