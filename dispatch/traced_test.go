package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

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

// TestOldestAnswer: the gauges tell how many answers are open and since when the oldest is, and nothing when this node
// no longer leads.
func TestOldestAnswer(t *testing.T) {
	met, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_700_000_060_000)
	o := &outbox{met: met, cfg: &Config{Now: func() time.Time { return now }}, sessions: map[string]*tracked{
		"u/a": {jobs: map[string]*job{"r1": {}, "r2": {}}, oldest: crdt.StampAt(now.Add(-time.Minute))},
		"u/b": {jobs: map[string]*job{"r3": {}}, oldest: crdt.StampAt(now.Add(-time.Second))},
		"u/c": {},
	}}
	o.measure()
	if n, age := testutil.ToFloat64(met.open), testutil.ToFloat64(met.oldest); n != 3 || age != 60 {
		t.Errorf("%v open, the oldest for %v s; want 3, 60", n, age)
	}
	met.none("")
	if n, age := testutil.ToFloat64(met.open), testutil.ToFloat64(met.oldest); n != 0 || age != 0 {
		t.Errorf("%v open, the oldest for %v s; want none", n, age)
	}
}
