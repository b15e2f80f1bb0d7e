package region

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// recorded is a region whose spans are kept.
type recorded struct {
	*started
	spans *tracetest.SpanRecorder
}

func startRecorded(t *testing.T, region, dir string) recorded {
	t.Helper()
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	return recorded{startWith(t, Config{Region: region, Node: "n1", Dir: dir, Tracer: p.Tracer("test")}), rec}
}

func (r recorded) named(name string) (found []sdktrace.ReadOnlySpan) {
	for _, s := range r.spans.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	return found
}

// copied copies a part of a region's directory into another.
func copied(t *testing.T, part, from, to string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(to, part), os.DirFS(filepath.Join(from, part))); err != nil {
		t.Fatal(err)
	}
}

// TestSpansFollowAnOp: from where it was put, through the region, to another one; and not again when the log is
// replayed.
func TestSpansFollowAnOp(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	start(t, "beijing", dir).stop()
	copied(t, "state", dir, crashed) // as after a crash: the state is old, and the log brings what came since
	a, b := startRecorded(t, "beijing", dir), startRecorded(t, "shanghai", t.TempDir())
	put := crdt.Trace{ID: [16]byte{7}, Span: [8]byte{8}, Flags: 1}
	one, two := msg("a", "one"), msg("b", "two")
	one.Trace, two.Trace = &put, &put
	a.put(t, "alice/trip", one, two, msg("c", "three"))
	a.put(t, "alice/trip", msg("d", "four"))
	for b.pull(t, a.started, 1<<20) {
	}
	proposed := a.named("propose")
	if len(proposed) != 1 || proposed[0].Parent().SpanID() != put.Span || proposed[0].SpanContext().TraceID() != put.ID {
		t.Fatalf("proposed: %v", proposed)
	}
	for _, r := range []recorded{a, b} {
		applied := r.named("apply")
		if len(applied) != 2 {
			t.Fatalf("%d spans of apply, want 2", len(applied))
		}
		for _, s := range applied {
			if s.Parent().SpanID() != proposed[0].SpanContext().SpanID() || s.Parent().TraceID() != put.ID {
				t.Errorf("%v is not below the proposal", s.Parent())
			}
		}
	}
	if n := len(b.named("propose")); n != 0 {
		t.Errorf("%d proposals of records are traced", n)
	}
	self := a.Self()
	a.stop()
	copied(t, "raft", dir, crashed)
	again := startRecorded(t, "beijing", crashed)
	if got := again.Cursors(crdt.PartitionOf("alice/trip"))[self.ID()]; got != 4 {
		t.Fatalf("%d ops were replayed, want 4", got)
	}
	if n := len(again.named("apply")); n != 0 {
		t.Errorf("%d spans of what was applied long ago", n)
	}
}

// TestTracesTravelWithoutTracer: a node that sends no spans carries what others began.
func TestTracesTravelWithoutTracer(t *testing.T) {
	a, b := start(t, "beijing", t.TempDir()), start(t, "shanghai", t.TempDir())
	op := msg("a", "one")
	op.Trace = &crdt.Trace{ID: [16]byte{7}, Span: [8]byte{8}, Flags: 1}
	a.put(t, "alice/trip", op)
	for b.pull(t, a, 1<<20) {
	}
	rs, err := b.Feed(a.Self(), crdt.PartitionOf("alice/trip"), 1, 1<<20)
	if err != nil || len(rs.Records) != 1 {
		t.Fatalf("%v, %v", rs, err)
	}
	if got := wire.TracedOp(rs.Records[0]); got == nil || *got.Trace != *op.Trace {
		t.Errorf("got %+v", got)
	}
	sameState(t, a, b, []string{"alice/trip"})
}

// TestFullQueueEndsSpans: a put that is refused at once is seen as such.
func TestFullQueueEndsSpans(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: t.TempDir(), Tracer: p.Tracer("test")})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put := func(op *crdt.Op) error { return r.Submit(&wire.Put{Session: "alice/trip", Ops: []*crdt.Op{op}}) }
	for put(msg("a", "x")) == nil {
	}
	op := msg("b", "x")
	op.Trace = &crdt.Trace{ID: [16]byte{7}, Span: [8]byte{8}, Flags: 1}
	if put(op) == nil {
		t.Fatal("a full queue takes more")
	}
	if ended := rec.Ended(); len(ended) != 1 || ended[0].Status().Description == "" {
		t.Errorf("%v", ended)
	}
}

// TestUntracedOpsCostNothing: what looks for traces allocates nothing for ops without one, with a tracer or none.
func TestUntracedOpsCostNothing(t *testing.T) {
	r := startRecorded(t, "beijing", t.TempDir())
	ops := []*crdt.Op{msg("a", "one"), msg("b", "two")}
	if n := testing.AllocsPerRun(100, func() {
		if r.proposing(ops) != nil {
			t.Error("spans")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSpansOfAForwardedPut: a put that enters by a node that does not lead is proposed there, once, and applied on all.
func TestSpansOfAForwardedPut(t *testing.T) {
	var mu sync.Mutex
	recs := map[string]*tracetest.SpanRecorder{}
	c := newCluster(t, 3, func(cfg *Config) {
		mu.Lock()
		defer mu.Unlock()
		recs[cfg.Node] = tracetest.NewSpanRecorder()
		cfg.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recs[cfg.Node])).Tracer("test")
	})
	entry := c.other(c.leader())
	op := msg("a", "one")
	op.Trace = &crdt.Trace{ID: [16]byte{7}, Span: [8]byte{8}, Flags: 1}
	c.node(entry).put(t, "alice/trip", op)
	c.equal()
	named := func(node, name string) []sdktrace.ReadOnlySpan { return recorded{spans: recs[node]}.named(name) }
	c.until("the put's span has ended", func() bool { return len(named(entry, "propose")) == 1 })
	want := named(entry, "propose")[0].SpanContext()
	for node := range recs {
		c.until("it is applied on "+node, func() bool { return len(named(node, "apply")) == 1 })
		if got := named(node, "apply")[0].Parent(); got.SpanID() != want.SpanID() || got.TraceID() != want.TraceID() {
			t.Errorf("%s applied it below %v, want %v", node, got, want)
		}
		if n := len(named(node, "propose")); node != entry && n != 0 {
			t.Errorf("%s has proposed it %d times", node, n)
		}
	}
}
