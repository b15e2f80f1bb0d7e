package dispatch

import (
	"fmt"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

func asks(run string) *wire.Change {
	return &wire.Change{
		Op:    &crdt.Op{Kind: crdt.KindMsg, Trace: &crdt.Trace{ID: [16]byte{1}, Span: [8]byte{1}}},
		Items: []crdt.Item{{Entry: &crdt.Entry{OID: run, Run: &crdt.Run{}}}},
	}
}

// TestTracedIsBounded: of more answers than are remembered, the oldest are forgotten; those that end always are.
func TestTracedIsBounded(t *testing.T) {
	tr := newTraced()
	for i := range 2 * maxTraced {
		tr.watch(asks(fmt.Sprint(i)))
	}
	if len(tr.runs) != maxTraced || len(tr.order) != maxTraced || tr.of("0") != nil || tr.of(fmt.Sprint(2*maxTraced-1)) == nil {
		t.Errorf("%d are remembered, in an order of %d", len(tr.runs), len(tr.order))
	}
	done := asks("x")
	done.Op.Kind, done.Op.Run = crdt.KindDone, fmt.Sprint(2*maxTraced-1)
	tr.watch(done)
	if tr.of(done.Op.Run) != nil {
		t.Error("an answer that ended is remembered")
	}
}

// TestUnwatchedAnswersCostNothing: looking for traces in events allocates nothing.
func TestUnwatchedAnswersCostNothing(t *testing.T) {
	b := newInbox()
	events := []wire.Event{{Session: "u/s", Changes: []wire.Change{{Op: &crdt.Op{Kind: crdt.KindSet}}}}}
	if n := testing.AllocsPerRun(100, func() { b.watch(events) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
