package crdt

import (
	"maps"
	"math/rand/v2"
	"testing"
)

func someFinals(r *rand.Rand) Finals {
	f := Finals{}
	for range r.IntN(5) {
		f[OriginID(r.IntN(4))] = r.Uint64N(4)
	}
	return f
}

func joinedFinals(a, b Finals) Finals {
	c := a.Clone()
	c.Join(b)
	return c
}

// TestFinalsJoin: commutative, associative, idempotent, and never less than either.
func TestFinalsJoin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		a, b, c := someFinals(r), someFinals(r), someFinals(r)
		if !maps.Equal(joinedFinals(a, b), joinedFinals(b, a)) {
			t.Fatalf("%v and %v: the order matters", a, b)
		}
		if !maps.Equal(joinedFinals(joinedFinals(a, b), c), joinedFinals(a, joinedFinals(b, c))) {
			t.Fatalf("%v, %v and %v: the grouping matters", a, b, c)
		}
		if !maps.Equal(joinedFinals(a, a), a) {
			t.Fatalf("%v joined with itself changes", a)
		}
		for id, f := range a {
			if got, closed := joinedFinals(a, b)[id]; !closed || got < f {
				t.Fatalf("%v joined with %v opens or lowers %d", a, b, id)
			}
		}
	}
}

func TestEvictionJoin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	some := func() Eviction { return Eviction{r.Uint64N(4), r.Uint64N(4)} }
	for range 5000 {
		a, b, c := some(), some(), some()
		if a.Join(b) != b.Join(a) || a.Join(b).Join(c) != a.Join(b.Join(c)) || a.Join(a) != a {
			t.Fatalf("%v, %v, %v", a, b, c)
		}
	}
	e := Evictions{"gone": {Bound: 5}, "back": {Bound: 5, Back: 6}, "never": {}}
	if !e.Out("gone") || e.Out("back") || !e.Out("never") || e.Out("other") {
		t.Error("who is out is not what was said")
	}
	if !e.Void("back", 5) || e.Void("back", 6) || e.Void("other", 0) {
		t.Error("what is void is not what was said")
	}
}

// TestClamp: what is closed is named up to its end, and all else as it was.
func TestClamp(t *testing.T) {
	f, v := Finals{1: 3, 2: 0, 3: 9}, Vector{1: 5, 2: 1, 3: 9, 4: 7}
	got, lost := f.Clamp(v)
	if want := (Vector{1: 3, 3: 9, 4: 7}); !lost || !maps.Equal(got, want) {
		t.Errorf("%v, %t", got, lost)
	}
	if v[1] != 5 {
		t.Error("the vector itself was changed")
	}
	if same, lost := f.Clamp(got); lost || !maps.Equal(same, got) {
		t.Error("clamped twice it changes again")
	}
	r := rand.New(rand.NewPCG(1, 3))
	for range 5000 {
		f, v := someFinals(r), Vector(someFinals(r))
		got, lost := f.Clamp(v)
		for id, at := range got {
			if !f.Admits(id, at) || at > v[id] {
				t.Fatalf("%v clamped by %v is %v", v, f, got)
			}
		}
		if !lost && !maps.Equal(got, v) {
			t.Fatalf("%v clamped by %v is %v, and nothing was lost", v, f, got)
		}
	}
}
