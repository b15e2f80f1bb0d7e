package crdt

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A subject is one of the types that a session is made of: what is done to it, what the oracle says that it then is, and
// what it is. Each has to keep every law alone; whole sessions have to keep them too (laws_test.go).
type subject struct {
	ops     func(t *rapid.T, r *replica) Op
	answers bool // workers report
	trims   bool // regions do
	want    func(o oracle) string
	got     func(st Store) string
}

func TestLog(t *testing.T)             { laws(t, logOfMessages) }
func TestRegister(t *testing.T)        { laws(t, registersOfMap) }
func TestEditsAndDeletes(t *testing.T) { laws(t, editsOfMessages) }
func TestReactions(t *testing.T)       { laws(t, reactionsToMessages) }
func TestReadMark(t *testing.T)        { laws(t, readMarks) }
func TestAnswerSlot(t *testing.T)      { laws(t, answerSlots) }
func TestStopFlag(t *testing.T)        { laws(t, stopFlags) }
func TestIdentity(t *testing.T)        { laws(t, identities) }
func TestHeader(t *testing.T)          { laws(t, headers) }
func TestRemoval(t *testing.T)         { laws(t, removals) }

// laws runs every law on random histories of a subject.
func laws(t *testing.T, s subject) {
	for _, law := range []struct {
		name  string
		holds func(t *rapid.T, s subject, h *history)
	}{
		{"ApplyIsIdempotentInAnyOrder", applyInAnyOrder},
		{"MergeIsCommutative", mergeCommutes},
		{"MergeIsAssociative", mergeAssociates},
		{"MergeIsIdempotent", mergeIsIdempotent},
		{"MergeEqualsApply", mergeEqualsApply},
		{"MergeOfThePastChangesNothing", mergeOfThePast},
		{"ApplyAfterMergeEqualsApply", applyAfterMerge},
		{"EncodingIsCanonical", encodingIsCanonical},
		{"ShowsWhatTheOracleSays", showsWhatTheOracleSays},
	} {
		t.Run(law.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { law.holds(t, s, drawHistory(t, s)) })
		})
	}
}

// history is what some regions did, with copies of their sessions from moments in between.
type history struct {
	*world
	past [][]*replica // per region, oldest first
}

func drawHistory(t *rapid.T, s subject) *history {
	h := &history{world: newWorld(t, 3)}
	h.past = make([][]*replica, len(h.regions))
	if s.answers { // one question in some regions, none of which has seen it in another
		for _, r := range h.regions[:number(t, "asked", 4)] {
			_ = r.put(Op{Kind: KindMsg, OID: "m0", Text: "text 0", User: "u", Role: "user", Models: []string{"echo"}}, Floor{})
		}
	}
	for range rapid.IntRange(1, 50).Draw(t, "steps") {
		i := rapid.IntRange(0, len(h.regions)-1).Draw(t, "region")
		r := h.regions[i]
		r.now = r.now.Add(time.Duration(rapid.IntRange(-5, 20).Draw(t, "ms")) * time.Millisecond)
		switch act := number(t, "act", 8); {
		case act < 2 || act < 4 && !s.answers:
			floor := Floor{Seq: uint64(rapid.SampledFrom([]int{0, 0, 0, 3, 9}).Draw(t, "floor"))}
			_ = r.put(s.ops(t, r), floor)
		case act < 4:
			for range number(t, "reports", 5) {
				h.work(r)
			}
		case act == 4:
			h.keep(i)
			if s.trims {
				r.trim(1 + number(t, "entries", 3))
			}
		default:
			for range rapid.IntRange(1, 4).Draw(t, "pulls") {
				r.pull(rapid.SampledFrom(h.regions).Draw(t, "from"))
			}
		}
	}
	for i := range h.regions {
		h.keep(i)
	}
	return h
}

// work reports something of an answer, and begins it first if nobody has.
func (h *history) work(r *replica) {
	op, ok := h.workerOp(r)
	if !ok {
		return
	}
	if s, _ := ReadSlot(r.st, op.Run); s.State == RunQueued && op.Kind == KindChunk {
		op.Nonce = r.name
		r.report(Op{Kind: KindBegin, Run: op.Run, Nonce: op.Nonce})
	}
	r.report(op)
}

func (h *history) keep(i int) {
	r := h.regions[i]
	h.past[i] = append(h.past[i], &replica{name: r.name, st: r.st.Clone(), seen: r.seen.Clone()})
}

// copies are all that were kept, of all regions.
func (h *history) copies() []*replica { return slices.Concat(h.past...) }

// draw takes any copy, as it was at some time.
func (h *history) draw(t *rapid.T, name string) *replica {
	return rapid.SampledFrom(h.copies()).Draw(t, name)
}

// all is everything that was issued.
func (h *history) all() Vector {
	v := Vector{}
	for _, r := range h.regions {
		v.Merge(r.seen)
	}
	return v
}

// replay applies all up to a vector to an empty session, in a random order that respects causes; between any two ops
// it does what it is given.
func (h *history) replay(t *rapid.T, upTo Vector, between func(u *replica)) *Mem {
	u := &replica{st: NewMem(), seen: Vector{}}
	for !u.seen.Covers(upTo) {
		var ready []*replica
		for _, from := range h.regions {
			if f := u.seen[from.id]; f < upTo[from.id] && u.seen.Covers(from.feed[f].deps) {
				ready = append(ready, from)
			}
		}
		u.pull(rapid.SampledFrom(ready).Draw(t, "next"))
		between(u)
	}
	return u.st
}

func nothing(*replica) {}

func applyInAnyOrder(t *rapid.T, _ subject, h *history) {
	again := func(u *replica) {
		from := rapid.SampledFrom(h.regions).Draw(t, "again of")
		if n := u.seen[from.id]; n > 0 && rapid.Bool().Draw(t, "again") {
			rec := from.feed[rapid.Uint64Range(0, n-1).Draw(t, "which")]
			if items := Apply(u.st, rec.op, rec.dot); items != nil {
				t.Fatalf("applying %v again shows %d items", rec.dot, len(items))
			}
		}
	}
	for _, c := range h.past {
		last := c[len(c)-1]
		sameSession(t, "applied in two orders", last.st, h.replay(t, last.seen, again))
	}
}

func mergeCommutes(t *rapid.T, _ subject, h *history) {
	a, b := h.draw(t, "a").st, h.draw(t, "b").st
	sameSession(t, "a∨b, b∨a", merged(a, b), merged(b, a))
}

func mergeAssociates(t *rapid.T, _ subject, h *history) {
	a, b, c := h.draw(t, "a").st, h.draw(t, "b").st, h.draw(t, "c").st
	sameSession(t, "(a∨b)∨c, a∨(b∨c)", merged(merged(a, b), c), merged(a, merged(b, c)))
}

func mergeIsIdempotent(t *rapid.T, _ subject, h *history) {
	a, b := h.draw(t, "a").st, h.draw(t, "b").st
	sameSession(t, "a∨a", a, merged(a, a))
	ab := merged(a, b)
	sameSession(t, "a∨b∨b", ab, merged(ab, b))
	sameSession(t, "a∨∅", a, merged(a, NewMem()))
	sameSession(t, "∅∨a", a, merged(NewMem(), a))
}

func mergeEqualsApply(t *rapid.T, _ subject, h *history) {
	a, b := h.draw(t, "a"), h.draw(t, "b")
	both := a.seen.Clone()
	both.Merge(b.seen)
	sameSession(t, "merged, applied", merged(a.st, b.st), h.replay(t, both, nothing))
}

func mergeOfThePast(t *rapid.T, _ subject, h *history) {
	a, b := h.draw(t, "a"), h.draw(t, "b")
	if !a.seen.Covers(b.seen) {
		a, b = b, a
	}
	if a.seen.Covers(b.seen) {
		sameSession(t, "merged with what it had seen", a.st, merged(a.st, b.st))
	}
}

// applyAfterMerge is a state transfer that comes in the middle of it all.
func applyAfterMerge(t *rapid.T, _ subject, h *history) {
	all := h.all()
	transfers := h.replay(t, all, func(u *replica) {
		if rapid.IntRange(0, 5).Draw(t, "transfer") == 0 {
			from := h.draw(t, "of")
			Merge(u.st, from.st)
			u.seen.Merge(from.seen)
		}
	})
	sameSession(t, "with transfers, without", transfers, h.replay(t, all, nothing))
}

// encodingIsCanonical: equal sets of ops are equal bytes, others are others; the bytes hold the whole session, and each
// element reads back as what it is.
func encodingIsCanonical(t *rapid.T, _ subject, h *history) {
	a, b := h.draw(t, "a"), h.draw(t, "b")
	same := a.seen.Covers(b.seen) && b.seen.Covers(a.seen)
	if bytes.Equal(Encode(a.st), Encode(b.st)) != same {
		t.Fatalf("same ops: %v, and the bytes say otherwise\n%s", same, diff(a.st, b.st))
	}
	sameSession(t, "decoded", a.st, decodeSession(t, Encode(a.st)))
	if err := CheckSession(listed(a.st)); err != nil && len(a.seen) > 0 {
		t.Fatal(err)
	}
	everything(a.st, func(k, v []byte) {
		back, err := reencode(k, v)
		if err != nil || !bytes.Equal(back, v) {
			t.Fatalf("element %q = %x reads back as %x, %v", k, v, back, err)
		}
	})
}

// decodeSession is the inverse of Encode. The product has no use for it.
func decodeSession(t *rapid.T, b []byte) *Mem {
	st, d, last := NewMem(), dec{b: b}, []byte{}
	for d.next() {
		k := d.member(true)
		if !d.next() || bytes.Compare(k, last) <= 0 {
			t.Fatalf("%q after %q: %v", k, last, d.err)
		}
		st.Set(k, d.member(true))
		d.last, last = 0, k // the two fields alternate
	}
	if d.err != nil {
		t.Fatal(d.err)
	}
	return st
}

// reencode decodes an element's value by its class, and encodes it again.
func reencode(k, v []byte) ([]byte, error) {
	switch k[0] {
	case classHeader:
		h, err := decodeHeader(v)
		st := NewMem()
		h.write(st)
		return st.Get(k), err
	case classIdentity:
		id, err := decodeIdentity(v)
		return id.encode(), err
	case classSlot:
		s, err := decodeSlot(string(k[1:]), v)
		return s.encode(), err
	case classRead:
		m, err := parseMark(v)
		if err != nil {
			return nil, err
		}
		return m.encode(), nil
	case classEntry, classRegister:
		if len(v) == 0 {
			return v, nil
		}
		op, err := DecodeOp(v)
		if err != nil {
			return nil, err
		}
		return stored(op), nil
	}
	return v, nil
}

func showsWhatTheOracleSays(t *rapid.T, s subject, h *history) {
	for _, c := range h.copies() {
		var o oracle
		for _, from := range h.regions {
			o.recs = append(o.recs, from.feed[:c.seen[from.id]]...)
		}
		if got, want := s.got(c.st), s.want(o.left()); got != want {
			t.Fatalf("%s, which has seen %v, shows\n%s\nwant\n%s", c.name, c.seen, got, want)
		}
	}
}

func lines(l []string) string {
	slices.Sort(l)
	return strings.Join(l, "\n")
}

func shownLines(st Store) string { return lines(shownLog(st)) }

func pick[T any](t *rapid.T, name string, from ...T) T { return rapid.SampledFrom(from).Draw(t, name) }

func number(t *rapid.T, name string, n int) int { return rapid.IntRange(0, n-1).Draw(t, name) }

func say(t *rapid.T, models ...string) Op {
	n := number(t, "message", 4-len(models)) // the fewer, the more often an answer is begun in two regions
	op := Op{Kind: KindMsg, OID: fmt.Sprintf("m%d", n), Text: fmt.Sprint("text ", n), User: "u", Role: "user", Models: models}
	if number(t, "conflict", 8) == 0 {
		op.Text += "!"
	}
	return op
}
