package gateway

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/telemetry"
	"github.com/roamsync/roam/wire"
)

const (
	// askedRate bounds the messages a second, and at once, that are watched because their clients ask for it. Beyond,
	// they are watched by chance, as all others.
	askedRate = 10
	// maxDeliveries bounds the connections, of all that an op is shown to, whose delivery is watched.
	maxDeliveries = 8
)

// tracing decides, once for each put and before anything is spent on it, whether its journey is watched.
type tracing struct {
	tracer  trace.Tracer // nil: nothing is
	now     func() time.Time
	below   uint64 // a put is watched if a random number is below
	metrics *metrics

	mu    sync.Mutex // guards asked
	asked bucket
}

// Ways to be watched, and not to be.
const (
	sampledChance  = "chance"
	sampledAsked   = "asked"
	sampledRefused = "asked_refused" // over askedRate
)

func newTracing(cfg *Config, m *metrics) *tracing {
	t := &tracing{tracer: cfg.Tracer, now: cfg.Clock.Now, metrics: m, asked: bucket{tokens: askedRate, last: cfg.Clock.Now()}}
	switch {
	case cfg.TraceSample >= 1:
		t.below = math.MaxUint64
	case cfg.TraceSample > 0:
		t.below = uint64(cfg.TraceSample * (1 << 63) * 2)
	}
	return t
}

// begin starts the span of a put that is watched; nil for the others. It ends when the put is decided.
func (t *tracing) begin(c *Conn, f *wire.ClientFrame) trace.Span {
	if t.tracer == nil {
		return nil
	}
	ctx, yes := t.decide(f)
	if !yes {
		return nil
	}
	oid := ""
	if len(f.Ops) > 0 {
		oid = cut(f.Ops[0].OID, wire.MaxName)
	}
	_, sp := telemetry.Start(ctx, t.tracer, "put", trace.SpanKindServer, telemetry.Message(cut(f.S, 2*wire.MaxName+1), oid, "put")...)
	sp.SetAttributes(telemetry.KeyConn.String(c.name), telemetry.KeyCount.Int(len(f.Ops)))
	return sp
}

func (t *tracing) decide(f *wire.ClientFrame) (context.Context, bool) {
	if len(f.Ext) > 0 {
		if parent, ok := parentOf(f.Ext); ok {
			if parent.Flags&byte(trace.FlagsSampled) == 0 {
				return nil, false // the client's tracing has decided against it
			}
			if t.grant() {
				t.metrics.sampled.WithLabelValues(sampledAsked).Inc()
				return telemetry.Below(context.Background(), parent.ID, parent.Span), true
			}
			t.metrics.sampled.WithLabelValues(sampledRefused).Inc()
		}
	}
	if t.below == 0 || (t.below < math.MaxUint64 && rand.Uint64() >= t.below) {
		return nil, false
	}
	t.metrics.sampled.WithLabelValues(sampledChance).Inc()
	return context.Background(), true
}

// grant takes one of the messages that clients may have watched.
func (t *tracing) grant() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.asked.takeOf(t.now(), askedRate, askedRate)
}

// parentOf reads the traceparent that a client handed in. What is none is passed over: a put is not refused for it.
func parentOf(ext json.RawMessage) (crdt.Trace, bool) {
	var e struct {
		Traceparent string `json:"traceparent"`
	}
	if json.Unmarshal(ext, &e) != nil || e.Traceparent == "" {
		return crdt.Trace{}, false
	}
	return crdt.ParseTrace(e.Traceparent)
}

// mark has ops carry where their put's span is.
func mark(sp trace.Span, ops []*crdt.Op) {
	sc := sp.SpanContext()
	t := &crdt.Trace{ID: sc.TraceID(), Span: sc.SpanID(), Flags: byte(sc.TraceFlags())}
	for _, op := range ops {
		op.Trace = t
	}
}

// tracedOp returns the first op of an event whose journey is watched; nil for nearly all.
func tracedOp(e *wire.Event) *crdt.Op {
	for i := range e.Changes {
		if op := e.Changes[i].Op; op.Trace != nil {
			return op
		}
	}
	return nil
}

// deliver starts the span of showing an op to one connection; it ends when that was written.
func (t *tracing) deliver(op *crdt.Op, s *sub, fanout int) trace.Span {
	id := op.OID
	if id == "" {
		id = op.Run
	}
	_, sp := telemetry.Start(telemetry.Below(context.Background(), op.Trace.ID, op.Trace.Span), t.tracer,
		"deliver", trace.SpanKindProducer, telemetry.Message(op.Session, id, op.Kind.String())...)
	sp.SetAttributes(telemetry.KeyConn.String(s.conn.name), telemetry.KeyFanout.Int(fanout))
	return sp
}

// watching holds the spans of puts that are under way, by tag: few, so that a ticket need not hold one.
type watching struct {
	mu    sync.Mutex
	spans map[uint64]trace.Span
}

func (w *watching) add(tag uint64, sp trace.Span) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spans[tag] = sp
}

// end ends a put's span, if there is one, with why the put was refused, if it was.
func (w *watching) end(tag uint64, err error) {
	w.mu.Lock()
	sp := w.spans[tag]
	delete(w.spans, tag)
	w.mu.Unlock()
	if sp != nil {
		telemetry.End(sp, err)
	}
}

// drop forgets a put's span, which its caller ends.
func (w *watching) drop(tag uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.spans, tag)
}

// delivered ends the spans of what was written, or was not.
func (o *outbox) delivered(err error) {
	for i, sp := range o.spans {
		telemetry.End(sp, err)
		o.spans[i] = nil
	}
	o.spans = o.spans[:0]
}

func cut(s string, n int) string { return s[:min(len(s), n)] }
