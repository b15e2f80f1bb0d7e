package crdt

import (
	"strings"
	"testing"
)

// taken commits what a region takes a run over with, and returns the last verdict.
func (r *replica) taken(run string) (v Verdict) {
	s, _ := ReadSlot(r.st, run)
	for _, op := range s.TakeOver(r.st, "alice/trip") {
		if v = r.report(*op).Verdict; v != Accepted {
			break
		}
	}
	return v
}

// asked is a question in a, answered there up to some text, that b knows of.
func asked(t *testing.T, text string) (a, b *replica, run string) {
	a, b = twoRegions()
	must(t, a.put(message("m", "echo"), Floor{}))
	run = RunID("m", "echo", "0")
	if text != "" {
		a.report(Op{Kind: KindBegin, Run: run, Nonce: "wa", Model: "echo"})
		a.report(Op{Kind: KindChunk, Run: run, Nonce: "wa", Text: text})
	}
	b.pullAll(a)
	return a, b, run
}

// TestTakenOverWhileAnswering: the region that takes over answers, and the one that began finds, when it comes back, that it has lost the
// slot: with what it had, and with what it went on to say, to its end.
func TestTakenOverWhileAnswering(t *testing.T) {
	a, b, run := asked(t, "half of")
	if v := b.report(Op{Kind: KindBegin, Run: run, Nonce: "wb", Model: "echo"}).Verdict; v != Superseded {
		t.Fatalf("a worker of the other region begins, and is told %d", v)
	}
	if v := b.taken(run); v != Accepted {
		t.Fatalf("taken over: %d", v)
	}
	if v := b.taken(run); v != Known {
		t.Errorf("taken over again: %d", v)
	}
	b.report(Op{Kind: KindBegin, Run: run, Nonce: "wb", Model: "echo"})
	a.report(Op{Kind: KindChunk, Run: run, Nonce: "wa", Off: 7, Text: " it"})
	a.report(Op{Kind: KindDone, Run: run, Nonce: "wa", Off: 10, State: RunDone, Fin: "end"})
	a.pullAll(b)
	if v := a.report(Op{Kind: KindChunk, Run: run, Nonce: "wa", Off: 10, Text: "!"}).Verdict; v != Superseded {
		t.Errorf("the worker that lost the slot is told %d", v)
	}
	if v := a.report(Op{Kind: KindDone, Run: run, State: RunStopped, Fin: "stopped"}).Verdict; v != Superseded {
		t.Errorf("a region closes an attempt of another's: %d", v)
	}
	b.report(Op{Kind: KindChunk, Run: run, Nonce: "wb", Text: "whole"})
	b.report(Op{Kind: KindDone, Run: run, Nonce: "wb", Off: 5, State: RunDone, Fin: "end"})
	a.pullAll(b)
	b.pullAll(a)
	for _, r := range []*replica{a, b} {
		if s, _ := ReadSlot(r.st, run); s.Text(r.st) != "whole" || s.State != RunDone || s.Attempt.Epoch != 2 || s.Home() != b.name {
			t.Errorf("%s has %q, %s, %s", r.name, s.Text(r.st), s.State, s.Attempt)
		}
	}
}

// TestTakenOverByTwo: of two regions that take one answer over, the greater attempt stands in both.
func TestTakenOverByTwo(t *testing.T) {
	a, b, run := asked(t, "")
	if a.taken(run) != Known || b.taken(run) != Accepted {
		t.Fatal("the region where the question stands has nothing to take over, the other one has")
	}
	first, _ := ReadSlot(b.st, run)
	a.report(Op{Kind: KindBegin, Run: run, Nonce: "wa", Model: "echo"})
	a.pullAll(b)
	if s, _ := ReadSlot(a.st, run); s.Attempt != first.Attempt {
		t.Errorf("%s stands against %s", s.Attempt, first.Attempt)
	}
	if v := a.taken(run); v != Accepted {
		t.Errorf("taken back: %d", v)
	}
	if s, _ := ReadSlot(a.st, run); s.Attempt.Epoch != 3 || s.Home() != a.name {
		t.Errorf("taken back as %s", s.Attempt)
	}
}

// TestNotTakenOverIfItGoesOn: what was decided on a state that has changed since is not done.
func TestNotTakenOverIfItGoesOn(t *testing.T) {
	a, b, run := asked(t, "half")
	s, _ := ReadSlot(b.st, run)
	ops := s.TakeOver(b.st, "alice/trip")
	a.report(Op{Kind: KindChunk, Run: run, Nonce: "wa", Off: 4, Text: " more"})
	b.pullAll(a)
	if v := b.report(*ops[0]).Verdict; v != Superseded {
		t.Errorf("taken over although it goes on: %d", v)
	}
	a.report(Op{Kind: KindDone, Run: run, Nonce: "wa", Off: 9, State: RunDone, Fin: "end"})
	b.pullAll(a)
	if v := b.report(*ops[0]).Verdict; v != Closed {
		t.Errorf("taken over although it is closed: %d", v)
	}
}

// TestStoppedWhatIsTakenOver: what has come stays.
func TestStoppedWhatIsTakenOver(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	a, b, run := asked(t, long)
	must(t, b.put(Op{Kind: KindStop, OID: "s", Run: run, User: "u"}, Floor{}))
	if v := b.taken(run); v != Accepted {
		t.Fatalf("taken over to be stopped: %d", v)
	}
	a.pullAll(b)
	for _, r := range []*replica{a, b} {
		if s, _ := ReadSlot(r.st, run); s.Text(r.st) != long || s.State != RunStopped || s.Fin != "stopped" || s.Sum != SumOf(long) {
			t.Errorf("%s has %d bytes, %s", r.name, s.Len, s.State)
		}
	}
}

func TestLastPut(t *testing.T) {
	a, b, run := asked(t, "half")
	if LastPut(b.st, b.name) != 0 {
		t.Error("nobody has put to b")
	}
	id, _ := Lookup(a.st, "m")
	if at := LastPut(b.st, a.name); at != id.Stamp || at == 0 {
		t.Errorf("put at %d, not %d", at, id.Stamp)
	}
	must(t, b.put(Op{Kind: KindSet, OID: "k", Key: "k", Value: []byte("1"), User: "u"}, Floor{}))
	id, _ = Lookup(b.st, "k")
	b.taken(run)
	if at := LastPut(b.st, b.name); at != id.Stamp || at == 0 {
		t.Errorf("put at %d, not %d", at, id.Stamp)
	}
}
