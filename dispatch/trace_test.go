package dispatch_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/worker"
)

func spansOf() (*tracetest.SpanRecorder, trace.Tracer) {
	rec := tracetest.NewSpanRecorder()
	return rec, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec)).Tracer("test")
}

// one finds the only span of a name.
func one(t *testing.T, rec *tracetest.SpanRecorder, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, s := range rec.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans are named %s, want 1", len(found), name)
	}
	return found[0]
}

// carried lists what an answer's ops carry, by kind; of chunks, the first and how many others do.
func (r *rig) carried(run string) (byKind map[crdt.Kind]*crdt.Trace, more int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byKind = map[crdt.Kind]*crdt.Trace{}
	for _, op := range r.history {
		switch {
		case op.Run != run || op.Trace == nil:
		case op.Kind == crdt.KindChunk && op.Off > 0:
			more++
		default:
			byKind[op.Kind] = op.Trace
		}
	}
	return byKind, more
}

// TestAnAnswerThatIsWatched: from the question over Redis to the worker and back, each step is below the one before.
func TestAnAnswerThatIsWatched(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		rec, tr := spansOf()
		cfg := r.config()
		cfg.Tracer = tr
		stop := r.leadWith(cfg)
		g := newGate(2) // so that there are several pieces
		stopWorker := r.work(g, func(c *worker.Config) { c.Tracer, c.Provider = tr, "test" })
		asked := crdt.Trace{ID: [16]byte{7}, Span: [8]byte{8}, Flags: 1}
		run := r.askOp("u/s", crdt.Op{Kind: crdt.KindMsg, OID: "q1", Role: "user", Text: "one two three", Models: []string{"echo"}, Trace: &asked})[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/s", run, "one two")
		close(g.open)
		r.awaitHeld("u/s", run, "one two three")
		r.await("the end of "+run, func() bool { _, ok := r.doneOf(run); return ok })
		stopWorker()
		stop()

		enqueue, answer, chat := one(t, rec, "enqueue"), one(t, rec, "answer"), one(t, rec, "chat echo")
		for _, pair := range []struct{ child, parent trace.SpanContext }{
			{enqueue.Parent(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: asked.ID, SpanID: asked.Span})},
			{answer.Parent(), enqueue.SpanContext()}, {chat.Parent(), answer.SpanContext()},
		} {
			if pair.child.SpanID() != pair.parent.SpanID() || pair.child.TraceID() != pair.parent.TraceID() {
				t.Errorf("below %v, want %v", pair.child, pair.parent)
			}
		}
		byKind, more := r.carried(run)
		for _, k := range []crdt.Kind{crdt.KindBegin, crdt.KindChunk, crdt.KindDone} {
			if got := byKind[k]; got == nil || got.Span != answer.SpanContext().SpanID() || got.ID != asked.ID {
				t.Errorf("%v carries %v", k, got)
			}
		}
		if more != 0 {
			t.Errorf("%d pieces besides the first carry a trace", more)
		}
	})
}

// TestTracesPassThrough: a leader and a worker that send no spans pass the trace on, and an answer that is not watched
// stays so.
func TestTracesPassThrough(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		r.work(fast)
		asked := crdt.Trace{ID: [16]byte{7}, Span: [8]byte{8}, Flags: 1}
		run := r.askOp("u/s", crdt.Op{Kind: crdt.KindMsg, OID: "q1", Role: "user", Text: "a", Models: []string{"echo"}, Trace: &asked})[0]
		other := r.ask("u/t", "q2", "b", "echo")[0]
		r.await("the ends", func() bool {
			_, a := r.doneOf(run)
			_, b := r.doneOf(other)
			return a && b
		})
		if byKind, _ := r.carried(run); byKind[crdt.KindDone] == nil || *byKind[crdt.KindDone] != asked {
			t.Errorf("%v", byKind)
		}
		if byKind, more := r.carried(other); len(byKind) != 0 || more != 0 {
			t.Errorf("an answer that is not watched carries %v", byKind)
		}
	})
}

// doneOf finds the op that closed an answer.
func (r *rig) doneOf(run string) (*crdt.Op, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, op := range r.history {
		if op.Run == run && op.Kind == crdt.KindDone {
			return op, true
		}
	}
	return nil, false
}

// TestAgeOfAnswersIsShown: an answer that nobody makes gets older for all to see.
func TestAgeOfAnswersIsShown(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		cfg, reg := r.config(), prometheus.NewRegistry()
		cfg.Registerer = reg
		r.leadWith(cfg)
		r.ask("u/s", "q1", "one", "echo")
		r.advance(time.Minute)
		look, limit := time.NewTicker(time.Millisecond), time.After(awaitLimit)
		defer look.Stop()
		for gauge(t, reg, "roam_dispatch_oldest_answer_seconds") < 60 {
			select {
			case <-look.C:
			case <-limit:
				t.Fatal("the answer does not get older")
			}
		}
		if n := gauge(t, reg, "roam_dispatch_open_answers"); n != 1 {
			t.Errorf("%v answers are open, want 1", n)
		}
	})
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
