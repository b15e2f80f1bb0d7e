package dispatch

import (
	"context"
	"sync"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/telemetry"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/workpb"
)

// maxTraced bounds the open answers whose journey is watched. Beyond, the oldest is no longer: the state does not hold
// traces, so that a new leader does not know of them either.
const maxTraced = 1024

// traced remembers which open answers are watched, from the op that asked for them on.
type traced struct {
	mu    sync.Mutex // guards what follows
	runs  map[string]*crdt.Trace
	order []string // oldest first; may name some that are gone
}

func newTraced() *traced { return &traced{runs: map[string]*crdt.Trace{}} }

// watch learns from a change whose op is watched.
func (t *traced) watch(c *wire.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Op.Kind == crdt.KindDone {
		delete(t.runs, c.Op.Run)
		return
	}
	for _, it := range c.Items {
		if it.Entry == nil || it.Entry.Run == nil || c.Op.Kind.IsAnswer() {
			continue
		}
		if len(t.order) >= maxTraced {
			delete(t.runs, t.order[0])
			t.order = append(t.order[:0:0], t.order[1:]...)
		}
		t.runs[it.Entry.OID] = c.Op.Trace
		t.order = append(t.order, it.Entry.OID)
	}
}

// of returns the trace of an answer's question; nil for nearly all.
func (t *traced) of(run string) *crdt.Trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.runs[run]
}

// enqueueing starts the spans of adding jobs for answers that are watched, and has the jobs carry them.
func (o *outbox) enqueueing(adds []planned) (all []trace.Span) {
	for _, a := range adds {
		t := o.inbox.traced.of(a.slot.OID)
		if t == nil {
			continue
		}
		a.msg.Traceparent = t.String()
		if o.cfg.Tracer == nil {
			continue
		}
		key := o.jobs.keys.Jobs(a.msg.Model)
		_, sp := telemetry.Start(telemetry.Below(context.Background(), t.ID, t.Span), o.cfg.Tracer, "enqueue", trace.SpanKindProducer,
			telemetry.Message(a.session, a.slot.OID, "run")...)
		sp.SetAttributes(semconv.MessagingSystemKey.String("redis"), semconv.MessagingDestinationName(key),
			semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("xadd"))
		sc := sp.SpanContext()
		below := crdt.Trace{ID: sc.TraceID(), Span: sc.SpanID(), Flags: byte(sc.TraceFlags())}
		a.msg.Traceparent = below.String()
		all = append(all, sp)
	}
	return all
}

func endSpans(all []trace.Span, err error) {
	for _, sp := range all {
		telemetry.End(sp, err)
	}
}

// traceOf is where in a trace a report is. What is none is passed over.
func traceOf(r *workpb.Report) *crdt.Trace {
	if r.Traceparent == "" {
		return nil
	}
	if t, ok := crdt.ParseTrace(r.Traceparent); ok {
		return &t
	}
	return nil
}
