package wire

import (
	"testing"

	"github.com/roamsync/roam/crdt"
)

func TestTracedOp(t *testing.T) {
	op := &crdt.Op{Kind: crdt.KindMsg, Session: "a/b", OID: "m1", Text: "x"}
	if got := TracedOp((Record{Op: op.Encode()}).Encode()); got != nil {
		t.Errorf("an op without a trace: %+v", got)
	}
	op.Text = string([]byte{0x82, 0x02, 25}) // looks like one
	if got := TracedOp((Record{Op: op.Encode()}).Encode()); got != nil {
		t.Errorf("an op whose text looks like a trace: %+v", got)
	}
	op.Trace = &crdt.Trace{ID: [16]byte{1}, Span: [8]byte{2}, Flags: 1}
	rec := Record{Op: op.Encode()}.Encode()
	if got := TracedOp(rec); got == nil || *got.Trace != *op.Trace {
		t.Errorf("got %+v", got)
	}
	if got := TracedOp(rec[:len(rec)-1]); got != nil {
		t.Errorf("half a record: %+v", got)
	}
}

// TestUntracedCostsNothing: what is not watched is looked at without an allocation.
func TestUntracedCostsNothing(t *testing.T) {
	rec := Record{Op: (&crdt.Op{Kind: crdt.KindMsg, Session: "a/b", OID: "m1", Text: "x"}).Encode()}.Encode()
	if n := testing.AllocsPerRun(100, func() { TracedOp(rec) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
