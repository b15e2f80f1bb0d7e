package feeds

import (
	"slices"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// seen is what is here of other regions.
type seen map[crdt.Origin]uint64

func (s seen) Origins() (all []crdt.Origin) {
	for o := range s {
		all = append(all, o)
	}
	return all
}

func (s seen) Cursors(p uint8) crdt.Vector {
	v := crdt.Vector{}
	for o, f := range s {
		if p == 0 {
			v[o.ID()] = f
		}
	}
	return v
}

// TestSilence: a region is gone once nothing was heard of it for so long, on its stream or otherwise, since it is followed.
func TestSilence(t *testing.T) {
	const after = 30 * time.Second
	now := time.Unix(1_900_000_000, 0)
	here := seen{crdt.NewOrigin("shanghai", 7): 3, crdt.NewOrigin("chengdu", 8): 1}
	s := NewSilence(here)
	gone := func(what string, parts uint64, want ...string) {
		t.Helper()
		if got := s.Gone(parts, after, now); !slices.Equal(got, want) {
			t.Errorf("%s: %v are gone, not %v", what, got, want)
		}
	}
	pass := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); now = now.Add(time.Second) {
			s.Gone(All, after, now)
		}
	}
	pass(time.Hour)
	gone("nobody is followed", All)
	s.Follow("shanghai", All, now)
	s.Follow("chengdu", 1, now)
	s.Follow("chengdu", 2, now)
	pass(after - time.Second)
	s.Follow("shanghai", All, now) // it is already
	s.Heard("chengdu", 2, now)
	gone("a moment before", All)
	pass(time.Second)
	gone("a group of a region is silent", All, "chengdu", "shanghai")
	gone("another one is not", 2, "shanghai")
	here[crdt.NewOrigin("shanghai", 9)]++
	gone("records come by way of another region", All, "chengdu")
	pass(after - time.Second)
	gone("it is a while since", All, "chengdu")
	pass(time.Second)
	gone("and long since", All, "chengdu", "shanghai")
	s.Heard("shanghai", All, now)
	gone("it is back", All, "chengdu")
	s.Leave("chengdu", 1)
	pass(after)
	gone("another node follows one", 1, "shanghai")
}
