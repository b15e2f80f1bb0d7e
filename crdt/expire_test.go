package crdt

import (
	"errors"
	"fmt"
	"testing"
)

// everywhere has one region mark its session, with the others holding what it has, and expires what was gone by then.
func (r *replica) everywhere(m Mark, others ...*replica) int {
	r.rows = []Vector{r.seen.Clone()}
	for _, o := range others {
		r.rows = append(r.rows, o.seen.Clone())
	}
	return r.expireAll(m)
}

// TestExpire: within the time a retry is a duplicate, after it a new op; content is shown by neither before.
func TestExpire(t *testing.T) {
	a, b := twoRegions()
	must(t, a.put(message("m", "echo"), Floor{}))
	b.pullAll(a)
	must(t, b.put(message("other"), Floor{}))
	must(t, b.put(forget("f"), Floor{}))
	if mark := MarkOf(b.st, 0); b.everywhere(mark, a) != 0 {
		t.Fatal("it expired before the other region had the removal")
	}
	a.pullAll(b)
	mark := MarkOf(b.st, 0)
	if b.everywhere(mark, a) != 1 {
		t.Fatal("nothing expired")
	}
	a.pullAll(b)
	for _, r := range []*replica{a, b} {
		for _, oid := range []string{"m", "other", "f"} {
			if _, known := Lookup(r.st, oid); known {
				t.Errorf("%s still knows %s", r.name, oid)
			}
		}
		if removedRun(r.st, RunID("m", "echo", "0")) {
			t.Errorf("%s still knows the answer", r.name)
		}
	}
	must(t, a.put(message("m", "echo"), Floor{}))
	b.pullAll(a)
	if shownOIDs(b.st) != "m" || len(OpenRuns(b.st)) != 1 || string(Encode(a.st)) != string(Encode(b.st)) {
		t.Errorf("an op that was put anew shows %q, %v", shownOIDs(b.st), OpenRuns(b.st))
	}
}

// TestWhatWasGoneLaterStays: an expiry takes only what was gone at its mark.
func TestWhatWasGoneLaterStays(t *testing.T) {
	a, _ := twoRegions()
	for i := range 8 {
		must(t, a.put(message(fmt.Sprintf("m%d", i)), Floor{}))
	}
	a.trim(4)
	mark := MarkOf(a.st, 0)
	for i := range 4 {
		must(t, a.put(message(fmt.Sprintf("n%d", i)), Floor{}))
	}
	a.trim(4)
	a.everywhere(mark)
	for oid, want := range map[string]bool{"m0": false, "m3": false, "m4": true, "m7": true, "n3": true} {
		if _, known := Lookup(a.st, oid); known != want {
			t.Errorf("%s is known: %t", oid, known)
		}
	}
	must(t, a.put(message("m5"), Floor{}))
	if got := shownOIDs(a.st); got != "n0 n1 n2 n3" {
		t.Errorf("it shows %s", got)
	}
}

// TestLate: what is put on a message that was removed is not numbered, since it might come to who has forgotten the message.
func TestLate(t *testing.T) {
	a, b := twoRegions()
	must(t, a.put(message("m", "echo"), Floor{}))
	must(t, a.put(Op{Kind: KindEdit, OID: "early", Of: "m", Text: "1"}, Floor{}))
	must(t, a.put(forget("f"), Floor{}))
	b.pullAll(a)
	for _, op := range []Op{
		{Kind: KindEdit, OID: "e", Of: "m"}, {Kind: KindDel, OID: "d", Of: "m"}, {Kind: KindReact, OID: "x", Of: "m", Key: "+1"},
		{Kind: KindRun, OID: "r", Of: "m", Model: "echo"},
	} {
		if id, late := Late(b.st, &op); !late || !id.Removed || id.By != a.id || id.F != 1 {
			t.Errorf("a %s of what is gone: %+v, %t", op.Kind, id, late)
		}
	}
	for _, op := range []Op{
		{Kind: KindEdit, OID: "early", Of: "m", Text: "1"}, {Kind: KindEdit, OID: "e", Of: "unseen"}, {Kind: KindSet, OID: "k", Key: "m"},
		{Kind: KindStop, OID: "s", Run: RunID("m", "echo", "0")}, message("m"),
	} {
		if _, late := Late(b.st, &op); late {
			t.Errorf("%s %s is called late", op.Kind, op.OID)
		}
	}
}

// TestExpiryIsPassedOn: a state that has forgotten is joined with one that has not, and one that still has an op that goes, either way.
func TestExpiryIsPassedOn(t *testing.T) {
	a, b := twoRegions()
	must(t, a.put(message("m", "echo"), Floor{}))
	must(t, a.put(Op{Kind: KindEdit, OID: "e", Of: "m", Text: "1"}, Floor{}))
	b.pullAll(a)
	before := b.st.Clone()
	must(t, a.put(forget("f"), Floor{}))
	b.pullAll(a)
	removed := b.st.Clone()
	a.everywhere(MarkOf(a.st, 0), b)
	must(t, a.put(message("m", "echo"), Floor{})) // long after
	want := Encode(a.st)
	for name, old := range map[string]*Mem{"the message": before, "the removal": removed} {
		if got := merged(old, a.st); string(Encode(got)) != string(want) {
			t.Errorf("what has %s: %s", name, diff(got, a.st))
		}
		if got := merged(a.st, old); string(Encode(got)) != string(want) {
			t.Errorf("into what has %s: %s", name, diff(got, a.st))
		}
	}
}

// TestTrimmedForLong: of a session that goes on for ever, and is trimmed, as much is left whatever has gone through it: messages, answers, edits,
// reactions, values, read marks and ends that were asked for.
func TestTrimmedForLong(t *testing.T) {
	a, b := twoRegions()
	var sizes []int
	var marks []Mark
	for round := range 40 {
		for i := range 25 {
			oid := fmt.Sprintf("%03d-%02d", round, i)
			must(t, a.put(message(oid, "echo"), Floor{}))
			for _, op := range []Op{
				{Kind: KindEdit, OID: "e" + oid, Of: oid, Text: "edited"}, {Kind: KindReact, OID: "x" + oid, Of: oid, Key: "+1", On: true},
				{Kind: KindStop, OID: "s" + oid}, {Kind: KindRead, OID: "q" + oid, ReadSeq: 1 << 40},
				{Kind: KindSet, OID: "k" + oid, Key: "title", Value: []byte(`"t"`)},
			} {
				op.User = "u"
				must(t, a.put(op, Floor{}))
			}
			a.report(Op{Kind: KindDone, Run: RunID(oid, "echo", "0"), State: RunFailed})
		}
		a.trim(20)
		b.pullAll(a)
		if marks = append(marks, MarkOf(a.st, 0)); len(marks) > 3 {
			a.everywhere(marks[0], b)
			marks = marks[1:]
		}
		b.pullAll(a)
		sizes = append(sizes, len(Encode(a.st)))
	}
	if string(Encode(a.st)) != string(Encode(b.st)) {
		t.Error("the regions differ")
	}
	if first, last := sizes[9], sizes[39]; last > first*11/10 {
		t.Errorf("after 10 rounds it had %d bytes, after 40 %d: %v", first, last, sizes)
	}
}

// TestNothingIsLeft: of a session that is forgotten its header stays, once all have the expiry, and nothing else.
func TestNothingIsLeft(t *testing.T) {
	a, b := twoRegions()
	for i := range 2000 {
		must(t, a.put(message(fmt.Sprintf("m%04d", i)), Floor{}))
	}
	must(t, a.put(forget("f"), Floor{}))
	b.pullAll(a)
	if n := a.everywhere(MarkOf(a.st, 0), b); n != 4 {
		t.Errorf("2,001 ids took %d expiries", n)
	}
	b.pullAll(a)
	if !Expirable(a.st) {
		t.Error("what expiries name would never go")
	}
	if n := a.everywhere(MarkOf(a.st, 0), b); n != 1 || Expirable(a.st) {
		t.Errorf("%d more, and there is more to expire: %t", n, Expirable(a.st))
	}
	b.pullAll(a)
	for _, r := range []*replica{a, b} {
		everything(r.st, func(k, _ []byte) {
			if !IsHeader(k) {
				t.Errorf("%s is left with %q", r.name, k)
			}
		})
	}
}

func TestMarkReadsBack(t *testing.T) {
	for _, m := range []Mark{{}, {At: 7, Seen: Vector{3: 4}, First: 9, Blank: true}} {
		got, err := DecodeMark(m.Encode())
		if err != nil || fmt.Sprint(got) != fmt.Sprint(m) {
			t.Errorf("%+v reads back as %+v, %v", m, got, err)
		}
	}
	if _, err := DecodeMark([]byte{0x78, 1}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}
