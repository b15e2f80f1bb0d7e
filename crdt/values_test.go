package crdt

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawVector draws from so few origins and numbers that two are often equal, or one covers the other. Zeros mean absence.
func drawVector(t *rapid.T, name string) Vector {
	return rapid.MapOfN(rapid.Map(rapid.Uint32Range(0, 3), func(id uint32) OriginID { return OriginID(id) }), rapid.Uint64Range(0, 3), 0, 4).Draw(t, name)
}

// dots is the oracle of a vector: the set of all that it has seen.
func dots(v Vector) map[string]bool {
	set := map[string]bool{}
	for id, f := range v {
		for n := uint64(1); n <= f; n++ {
			set[fmt.Sprint(id, n)] = true
		}
	}
	return set
}

func joined(a, b Vector) Vector {
	c := a.Clone()
	c.Merge(b)
	return c
}

func TestVectorMergeIsCommutative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVector(t, "a"), drawVector(t, "b")
		if ab, ba := joined(a, b), joined(b, a); !maps.Equal(ab, ba) {
			t.Fatalf("%v, %v", ab, ba)
		}
	})
}

func TestVectorMergeIsAssociative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawVector(t, "a"), drawVector(t, "b"), drawVector(t, "c")
		if l, r := joined(joined(a, b), c), joined(a, joined(b, c)); !maps.Equal(l, r) {
			t.Fatalf("%v, %v", l, r)
		}
	})
}

func TestVectorMergeIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVector(t, "a"), drawVector(t, "b")
		if ab := joined(a, b); !maps.Equal(joined(a, a), a) || !maps.Equal(joined(ab, b), ab) {
			t.Fatalf("%v, %v", joined(a, a), joined(ab, b))
		}
	})
}

// TestVectorMergeIsUnion and TestVectorCoversIsInclusion: of the sets of what was seen.
func TestVectorMergeIsUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVector(t, "a"), drawVector(t, "b")
		want, keep := dots(a), b.Clone()
		maps.Copy(want, dots(b))
		if got := joined(a, b); !maps.Equal(dots(got), want) || !maps.Equal(b, keep) {
			t.Fatalf("%v ∪ %v is %v", a, b, got)
		}
	})
}

func TestVectorCoversIsInclusion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVector(t, "a"), drawVector(t, "b")
		rest := dots(b)
		for dot := range dots(a) {
			delete(rest, dot)
		}
		if a.Covers(b) != (len(rest) == 0) {
			t.Fatalf("%v covers %v: %v, but %v", a, b, a.Covers(b), rest)
		}
		if !Vector(nil).Covers(nil) || !a.Covers(nil) || Vector(nil).Covers(a) != (len(dots(a)) == 0) {
			t.Fatal("nil is not the empty vector")
		}
	})
}

// TestVectorEncodingIsCanonical: equal bytes mean that the same was seen, and decode to that.
func TestVectorEncodingIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVector(t, "a"), drawVector(t, "b")
		if bytes.Equal(EncodeVector(a), EncodeVector(b)) != (a.Covers(b) && b.Covers(a)) {
			t.Fatalf("%v is %x, %v is %x", a, EncodeVector(a), b, EncodeVector(b))
		}
		got, err := DecodeVector(EncodeVector(a))
		if err != nil || !got.Covers(a) || !a.Covers(got) {
			t.Fatalf("%v decodes to %v, %v", a, got, err)
		}
	})
}

// totallyOrdered checks that compare is an order of all values, in which only equal ones are level.
func totallyOrdered[T comparable](t *rapid.T, draw func(t *rapid.T, name string) T, compare func(a, b T) int) {
	a, b, c := draw(t, "a"), draw(t, "b"), draw(t, "c")
	if (compare(a, b) == 0) != (a == b) {
		t.Fatalf("%v and %v are level: %v", a, b, compare(a, b) == 0)
	}
	if compare(a, b) != -compare(b, a) {
		t.Fatalf("%v against %v: %d, and back %d", a, b, compare(a, b), compare(b, a))
	}
	if compare(a, b) <= 0 && compare(b, c) <= 0 && compare(a, c) > 0 {
		t.Fatalf("%v ≤ %v ≤ %v, and the last is below the first", a, b, c)
	}
}

// byLess makes a comparison of a relation. It is an order only if the relation is strict.
func byLess[T any](less func(a, b T) bool) func(a, b T) int {
	return func(a, b T) int {
		n := 0
		if less(a, b) {
			n--
		}
		if less(b, a) {
			n++
		}
		return n
	}
}

func drawOrigin(t *rapid.T, name string) Origin {
	return NewOrigin(pick(t, name+" region", "a", "a-b", "b"), uint64(1+number(t, name+" incarnation", 2)))
}

func drawPlace(t *rapid.T, name string) Place {
	return Place{Seq: uint64(number(t, name+" seq", 3)), At: drawOrigin(t, name)}
}

func drawVersion(t *rapid.T, name string) Version {
	return Version{Stamp(number(t, name+" stamp", 3)), OriginID(number(t, name+" by", 3))}
}

// TestPlaceOrderIsTotal, and as clients sort: by seq, then by `at` byte by byte; the log's keys go the same way.
func TestPlaceOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		totallyOrdered(t, drawPlace, Place.Compare)
		p, q := drawPlace(t, "p"), drawPlace(t, "q")
		want := cmp.Or(cmp.Compare(p.Seq, q.Seq), strings.Compare(string(p.At), string(q.At)))
		if p.Compare(q) != want || bytes.Compare(p.key(classEntry, "x"), q.key(classEntry, "x")) != want {
			t.Fatalf("%v against %v is %d, their keys %q and %q", p, q, p.Compare(q), p.key(classEntry, "x"), q.key(classEntry, "x"))
		}
		if at, oid := placeOf(p.key(classEntry, "x")); at != p || oid != "x" {
			t.Fatalf("%v reads back as %v of %q", p, at, oid)
		}
	})
}

// TestVersionOrderIsTotal; the keys of a register go from the greatest down.
func TestVersionOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		totallyOrdered(t, drawVersion, byLess(Version.Less))
		v, w := drawVersion(t, "v"), drawVersion(t, "w")
		kv, kw := registerKey("s", v, ""), registerKey("s", w, "")
		if bytes.Compare(kv, kw) != byLess(Version.Less)(w, v) || versionOf(kv[3:]) != v {
			t.Fatalf("%v has key %q, %v has %q", v, kv, w, kw)
		}
	})
}

func TestAttemptOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { totallyOrdered(t, drawAttempt, Attempt.Compare) })
}

// TestIdentityOrderIsTotal: of any two copies under an oid one stands, in whatever way they differ.
func TestIdentityOrderIsTotal(t *testing.T) {
	type copied struct {
		seq   uint64
		stamp Stamp
		at    Origin
	}
	draw := func(t *rapid.T, name string) copied {
		return copied{uint64(number(t, name+" seq", 3)), Stamp(number(t, name+" stamp", 3)), drawOrigin(t, name)}
	}
	identity := func(c copied) Identity {
		return Identity{Place: Place{c.seq, c.at}, Stamp: c.stamp, By: c.at.ID(), F: 1}
	}
	rapid.Check(t, func(t *rapid.T) {
		totallyOrdered(t, draw, byLess(func(a, b copied) bool { return identity(a).before(identity(b)) }))
	})
}

// TestReadMarkOrderIsTotal: the furthest stands; of equals, the first to get there.
func TestReadMarkOrderIsTotal(t *testing.T) {
	type mark struct {
		seq uint64
		v   Version
	}
	draw := func(t *rapid.T, name string) mark {
		return mark{uint64(number(t, name+" seq", 3)), drawVersion(t, name)}
	}
	before := func(a, b mark) bool {
		return readMark{a.v.By, &Op{Seq: a.seq, Stamp: a.v.Stamp}}.before(readMark{b.v.By, &Op{Seq: b.seq, Stamp: b.v.Stamp}})
	}
	rapid.Check(t, func(t *rapid.T) {
		totallyOrdered(t, draw, byLess(before))
		a, b := draw(t, "a"), draw(t, "b")
		if a.seq < b.seq && !before(a, b) || a.seq == b.seq && b.v.Less(a.v) && !before(a, b) {
			t.Fatalf("%v stands against %v", a, b)
		}
	})
}

// TestClockGrowsAndObserves: against a list of all that the clock gave and saw.
func TestClockGrowsAndObserves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Clock
		past := []Stamp{0}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			floor := StampAt(time.UnixMilli(int64(number(t, "floor", 5)))) + Stamp(number(t, "count", 3))
			if number(t, "observe", 2) == 0 {
				c.Observe(floor)
				past = append(past, floor)
				continue
			}
			now := time.UnixMilli(int64(number(t, "now", 5)))
			want := max(slices.Max(past)+1, floor+1, StampAt(now))
			if got := c.Next(now, floor); got != want {
				t.Fatalf("%d after %v above %d at %v, want %d", got, past, floor, now, want)
			}
			past = append(past, want)
		}
	})
}

// TestClockObserveIsAMaximum: in any order, any number of times.
func TestClockObserveIsAMaximum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stamps := rapid.SliceOfN(rapid.Uint64Range(0, 9), 1, 9).Draw(t, "stamps")
		var a, b Clock
		for _, s := range stamps {
			a.Observe(Stamp(s))
		}
		for _, s := range rapid.Permutation(append(stamps, stamps...)).Draw(t, "again") {
			b.Observe(Stamp(s))
		}
		if want := (Clock{Stamp(slices.Max(stamps))}); a != want || b != want {
			t.Fatalf("%v, %v, want %v", a, b, want)
		}
	})
}
