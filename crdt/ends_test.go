package crdt

import (
	"bytes"
	"testing"
)

// TestTwoEndsOfOneText: a region whose disk went back has taken the results of a worker in again. Where both ends come as ops the later stands, and
// where copies are merged, too.
func TestTwoEndsOfOneText(t *testing.T) {
	a, _, run := asked(t, "it")
	a.report(Op{Kind: KindDone, Run: run, Nonce: "wa", Off: 2, State: RunDone, Fin: "end"})
	first, again := NewMem(), NewMem()
	everything(a.st, first.Set)
	everything(a.st, again.Set)
	s, ok := ReadSlot(again, run)
	if !ok || !s.State.Closed() {
		t.Fatal("it has not ended")
	}
	later := s.Active + 1
	s.Active = later
	s.write(again)
	one, other := first.Clone(), again.Clone()
	Merge(one, again)
	Merge(other, first)
	if !bytes.Equal(Encode(one), Encode(other)) {
		t.Error("merged, they are not the same the other way round")
	}
	if s, _ := ReadSlot(one, run); s.Active != later || s.Text(one) != "it" {
		t.Errorf("%q of %d stands, want that of %d", s.Text(one), s.Active, later)
	}
}
