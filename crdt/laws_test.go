package crdt

import (
	"bytes"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func drawWorld(t *rapid.T) *world {
	w := newWorld(t, 3)
	w.run()
	return w
}

// run draws what happens.
func (w *world) run() {
	w.expires = rapid.SampledFrom([]int{0, 2, 6}).Draw(w.t, "expires")
	for range rapid.IntRange(1, 60+10*w.expires).Draw(w.t, "steps") {
		w.step()
	}
}

func sameSession(t *rapid.T, what string, a, b Store) {
	if !bytes.Equal(Encode(a), Encode(b)) {
		t.Fatalf("%s: sessions differ\n%s", what, diff(a, b))
	}
}

func diff(a, b Store) string {
	var out bytes.Buffer
	side := func(name string, x, y Store) {
		everything(x, func(k, v []byte) {
			if at := y.Get(k); at == nil || !bytes.Equal(at, v) {
				out.WriteString(name + " " + string(k[:1]) + " " + strconv.Quote(string(k)) + " = " + strconv.Quote(string(v)) + "\n")
			}
		})
	}
	side("left ", a, b)
	side("right", b, a)
	return out.String()
}

func TestApplyConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.settle()
		for _, r := range w.regions[1:] {
			sameSession(t, "after everything was exchanged", w.regions[0].st, r.st)
		}
		sameSession(t, "replayed in another order", w.regions[0].st, w.union(w.regions...))
	})
}

func TestApplyIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		r := w.regions[0]
		before := r.st.Clone()
		for _, from := range w.regions {
			for _, rec := range from.feed[:r.seen[from.id]] {
				if items := Apply(r.st, rec.op, rec.dot); items != nil {
					t.Fatalf("applying %v again shows %d items", rec.dot, len(items))
				}
			}
		}
		sameSession(t, "applied twice", before, r.st)
	})
}

func merged(a, b *Mem) *Mem {
	c := a.Clone()
	Merge(c, b)
	return c
}

func TestMergeIsCommutative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		a, b := w.regions[0].st, w.regions[1].st
		sameSession(t, "a∨b, b∨a", merged(a, b), merged(b, a))
	})
}

func TestMergeIsAssociative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		a, b, c := w.regions[0].st, w.regions[1].st, w.regions[2].st
		sameSession(t, "(a∨b)∨c, a∨(b∨c)", merged(merged(a, b), c), merged(a, merged(b, c)))
	})
}

func TestMergeIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		a, b := w.regions[0].st, w.regions[1].st
		sameSession(t, "a∨a", a, merged(a, a))
		ab := merged(a, b)
		sameSession(t, "a∨b∨b", ab, merged(ab, b))
	})
}

func TestMergeEqualsApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		a, b := w.regions[0], w.regions[1]
		sameSession(t, "merged, applied", merged(a.st, b.st), w.union(a, b))
	})
}

// TestMergeOfOld: a copy of long ago brings nothing back that was forgotten since, whichever is joined into which.
func TestMergeOfOld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 3)
		w.run()
		r := w.regions[rapid.IntRange(0, 2).Draw(t, "of")]
		old := r.st.Clone()
		for range rapid.IntRange(0, 3).Draw(t, "more") {
			w.run()
		}
		sameSession(t, "now∨old, now", merged(r.st, old), r.st)
		sameSession(t, "old∨now, now", merged(old, r.st), r.st)
	})
}
