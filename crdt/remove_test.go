package crdt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// twoRegions share a session.
func twoRegions() (a, b *replica) {
	w := newWorld(nil, 2)
	return w.regions[0], w.regions[1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *replica) pullAll(from *replica) {
	for r.pull(from) {
	}
}

func message(oid string, models ...string) Op {
	return Op{Kind: KindMsg, OID: oid, Text: "text of " + oid, User: "u", Role: "user", Models: models}
}

func forget(oid string) Op { return Op{Kind: KindForget, OID: oid, User: "u"} }

// shownOIDs are the oids of a session's log.
func shownOIDs(st Store) string {
	log, _ := Page(st, 0, 1000)
	var oids []string
	for _, e := range log {
		if e.Msg != nil {
			oids = append(oids, e.OID)
		}
	}
	return strings.Join(oids, " ")
}

func TestForgetLeavesNothingToRead(t *testing.T) {
	a, _ := twoRegions()
	for _, op := range []Op{
		message("secret", "echo"), {Kind: KindEdit, OID: "e", Of: "secret", Text: "text of the edit", User: "u"},
		{Kind: KindReact, OID: "x", Of: "secret", Key: "text of a reaction", On: true, User: "u"},
		{Kind: KindSet, OID: "k", Key: "text of a key", Value: []byte(`"text"`), User: "u"},
		{Kind: KindRead, OID: "q", ReadSeq: 1, User: "u", Device: "text of a device"},
	} {
		must(t, a.put(op, Floor{}))
	}
	run := RunID("secret", "echo", "0")
	a.report(Op{Kind: KindBegin, Run: run, Nonce: "w", Model: "echo"})
	a.report(Op{Kind: KindChunk, Run: run, Nonce: "w", Text: "text of an answer"})
	must(t, a.put(forget("f"), Floor{}))
	if b := Encode(a.st); strings.Contains(string(b), "text") {
		t.Errorf("what was forgotten is still there: %q", b)
	}
	if log, more := Page(a.st, 0, 10); len(log) > 0 || more || len(Map(a.st)) > 0 || len(Read(a.st)) > 0 || len(OpenRuns(a.st)) > 0 {
		t.Errorf("it shows %v, %v, %v, %v", log, Map(a.st), Read(a.st), OpenRuns(a.st))
	}
	for _, kind := range []Kind{KindBegin, KindChunk, KindDone} {
		if held := a.report(Op{Kind: kind, Run: run, Nonce: "w", Off: 17, Text: "more"}); held.Verdict != Unknown {
			t.Errorf("a %s of an answer that is gone is judged %d", kind, held.Verdict)
		}
	}
	must(t, a.put(message("next"), Floor{}))
	if id, _ := Lookup(a.st, "next"); id.Seq != 3 {
		t.Errorf("a place was given again: %d", id.Seq)
	}
}

// TestRemovedOpsAreKnown: a late retry is a duplicate, other content a conflict, and nothing can be asked of what is gone.
func TestRemovedOpsAreKnown(t *testing.T) {
	a, _ := twoRegions()
	must(t, a.put(message("m", "echo"), Floor{}))
	must(t, a.put(forget("f"), Floor{}))
	before := len(a.feed)
	must(t, a.put(message("m", "echo"), Floor{}))
	if len(a.feed) != before {
		t.Error("a retry was taken in again")
	}
	if err := a.put(message("m"), Floor{}); !errors.Is(err, ErrConflict) {
		t.Errorf("other content: %v", err)
	}
	for _, op := range []Op{{Kind: KindRun, OID: "r", Of: "m"}, {Kind: KindStop, OID: "s", Run: RunID("never", "echo", "0")}} {
		if err := a.put(op, Floor{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", op.Kind, err)
		}
	}
	must(t, a.put(Op{Kind: KindStop, OID: "s", Run: RunID("m", "echo", "0")}, Floor{}))
	must(t, a.put(Op{Kind: KindEdit, OID: "e", Of: "m", Text: "late"}, Floor{}))
	must(t, a.put(Op{Kind: KindReact, OID: "x", Of: "m", Key: "+1", On: true}, Floor{}))
	if items := Since(a.st, nil); len(items) > 0 || shownOIDs(a.st) != "" {
		t.Errorf("it shows %v", items)
	}
}

// TestAnotherCopyDoesNotResurrect: the copy that stands was unseen, and the one that was seen does not stand.
func TestAnotherCopyDoesNotResurrect(t *testing.T) {
	a, b := twoRegions()
	must(t, a.put(message("other"), Floor{}))
	must(t, a.put(message("m"), Floor{})) // at 2
	must(t, b.put(message("m"), Floor{})) // at 1
	must(t, a.put(forget("f"), Floor{}))
	a.pullAll(b)
	b.pullAll(a)
	for _, r := range []*replica{a, b} {
		if got := shownOIDs(r.st); got != "" {
			t.Errorf("%s shows %s", r.name, got)
		}
	}
}

func TestWhatWasNotSeenStays(t *testing.T) {
	a, b := twoRegions()
	must(t, a.put(message("old"), Floor{}))
	b.pullAll(a)
	must(t, b.put(message("new"), Floor{}))
	must(t, b.put(Op{Kind: KindEdit, OID: "e", Of: "old", Text: "edited"}, Floor{}))
	must(t, b.put(Op{Kind: KindRun, OID: "r", Of: "old", Model: "echo"}, Floor{}))
	must(t, b.put(Op{Kind: KindSet, OID: "k", Key: "title", Value: []byte("1")}, Floor{}))
	must(t, a.put(forget("f"), Floor{}))
	a.pullAll(b)
	b.pullAll(a)
	for _, r := range []*replica{a, b} {
		if got := shownOIDs(r.st); got != "new" || len(Map(r.st)) != 1 || len(OpenRuns(r.st)) != 0 {
			t.Errorf("%s shows %q, %v, %v", r.name, got, Map(r.st), OpenRuns(r.st))
		}
	}
	if id, _ := Lookup(a.st, "new"); id.Place != (Place{2, b.origin}) {
		t.Errorf("it moved to %v", id.Place)
	}
}

// TestReadMarkReachesWhatWasSeen: a mark is capped at the end of the log, which for its user may be further than the region knows yet.
func TestReadMarkReachesWhatWasSeen(t *testing.T) {
	for _, c := range []struct{ marked, floor, want uint64 }{{9, 0, 1}, {9, 4, 4}, {3, 4, 3}, {1, 4, 1}} {
		a, b := twoRegions()
		for i := range 4 {
			must(t, b.put(message(fmt.Sprintf("m%d", i)), Floor{}))
		}
		must(t, a.put(message("here"), Floor{}))
		must(t, a.put(Op{Kind: KindRead, OID: "q", ReadSeq: c.marked, User: "u"}, Floor{Seq: c.floor}))
		if got := Read(a.st)["u"]; got != c.want {
			t.Errorf("%+v: it is read up to %d", c, got)
		}
		a.pullAll(b)
		b.pullAll(a)
		if x, y := Read(a.st)["u"], Read(b.st)["u"]; x != c.want || y != c.want {
			t.Errorf("%+v: in the end it is read up to %d and %d", c, x, y)
		}
		must(t, a.put(message("next"), Floor{}))
		if id, _ := Lookup(a.st, "next"); id.Seq != 5 {
			t.Errorf("%+v: a mark moved the end of the log: the next stands at %d", c, id.Seq)
		}
	}
}

// TestTrim: down to what is asked, once there is a quarter more, and never into an answer that is not closed.
func TestTrim(t *testing.T) {
	a, _ := twoRegions()
	for i := range 10 {
		must(t, a.put(message(fmt.Sprintf("m%d", i)), Floor{}))
	}
	must(t, a.put(Op{Kind: KindEdit, OID: "e", Of: "m1", Text: "edited"}, Floor{}))
	must(t, a.put(Op{Kind: KindSet, OID: "k", Key: "title", Value: []byte("1")}, Floor{}))
	must(t, a.put(Op{Kind: KindRead, OID: "q", ReadSeq: 2, User: "u"}, Floor{}))
	for _, c := range []struct {
		keep int
		want string
	}{
		{0, "m0 m1 m2 m3 m4 m5 m6 m7 m8 m9"}, {8, "m0 m1 m2 m3 m4 m5 m6 m7 m8 m9"}, {7, "m3 m4 m5 m6 m7 m8 m9"}, {7, "m3 m4 m5 m6 m7 m8 m9"},
	} {
		a.trim(c.keep)
		if got := shownOIDs(a.st); got != c.want {
			t.Errorf("kept %d: %s", c.keep, got)
		}
	}
	if len(Map(a.st)) != 1 || Read(a.st)["u"] != 2 {
		t.Errorf("the map is %v, read up to %v", Map(a.st), Read(a.st))
	}
	must(t, a.put(message("ask", "echo"), Floor{}))
	for i := range 5 {
		must(t, a.put(message(fmt.Sprintf("n%d", i)), Floor{}))
	}
	a.trim(2)
	if got := shownOIDs(a.st); got != "ask n0 n1 n2 n3 n4" {
		t.Errorf("with an open answer it kept %s", got)
	}
	a.report(Op{Kind: KindDone, Run: RunID("ask", "echo", "0"), State: RunFailed})
	a.trim(5)
	if got := shownOIDs(a.st); got != "n0 n1 n2 n3 n4" {
		t.Errorf("with an answer that is closed it kept %s", got)
	}
}

// TestTrimDoesNotPart: a cut that falls on an answer leaves its question.
func TestTrimDoesNotPart(t *testing.T) {
	a, _ := twoRegions()
	a.now = a.now.Add(time.Second)
	for _, op := range []Op{message("m"), message("ask", "echo", "echo"), message("n")} {
		must(t, a.put(op, Floor{}))
	}
	for i := range 2 {
		a.report(Op{Kind: KindDone, Run: RunID("ask", "echo", fmt.Sprint(i)), State: RunFailed})
	}
	a.trim(2)
	if log, _ := Page(a.st, 0, 10); shownOIDs(a.st) != "ask n" || len(log) != 4 {
		t.Errorf("it kept %s, %d entries", shownOIDs(a.st), len(log))
	}
}
