package crdt

import (
	"testing"
	"time"
)

// TestPurge: what was put elsewhere meanwhile stays, in whichever order it meets the purge; what goes is known, and is no more.
func TestPurge(t *testing.T) {
	a, b := twoRegions()
	must(t, a.put(message("old", "echo"), Floor{}))
	must(t, a.put(Op{Kind: KindSet, OID: "k", Key: "title", Value: []byte("1"), User: "u"}, Floor{}))
	run := RunID("old", "echo", "0")
	a.report(Op{Kind: KindBegin, Run: run, Nonce: "w", Model: "echo"})
	if a.purge() {
		t.Error("purged in mid-answer")
	}
	a.report(Op{Kind: KindDone, Run: run, Nonce: "w", State: RunDone, Fin: "end"})
	b.pullAll(a)
	must(t, b.put(message("new"), Floor{}))
	must(t, b.put(Op{Kind: KindSet, OID: "k2", Key: "title", Value: []byte("2"), User: "u"}, Floor{}))
	if !a.purge() || a.purge() {
		t.Error("a session is purged once")
	}
	a.pullAll(b)
	b.pullAll(a)
	if string(Encode(a.st)) != string(Encode(b.st)) {
		t.Error("the regions differ")
	}
	for _, r := range []*replica{a, b} {
		if got := shownOIDs(r.st); got != "new" || len(Map(r.st)) != 1 || string(Map(r.st)[0].Value) != "2" {
			t.Errorf("%s shows %s and %v", r.name, got, Map(r.st))
		}
		must(t, r.put(message("old", "echo"), Floor{}))
		if got := shownOIDs(r.st); got != "new" {
			t.Errorf("put again in %s, there is %s", r.name, got)
		}
	}
}

func TestIdle(t *testing.T) {
	a, _ := twoRegions()
	if _, idle := Idle(a.st, 1<<60); idle {
		t.Error("a session that nobody has written is idle")
	}
	must(t, a.put(message("m"), Floor{}))
	at := a.now.UnixMilli()
	if _, idle := Idle(a.st, at); idle {
		t.Error("it was used just then")
	}
	seen, idle := Idle(a.st, at+1)
	if !idle {
		t.Fatal("it was not used since")
	}
	a.now = a.now.Add(time.Minute)
	must(t, a.put(message("n"), Floor{}))
	if IssuePurge(a.st, &Op{Kind: KindPurge, Seen: seen}, 1<<60) {
		t.Error("purged although more has come since it was found idle")
	}
}
