package machine

import (
	"cmp"
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/telemetry"
)

// spans are of ops whose journey is watched; nil for nearly all.
type spans []trace.Span

func (s spans) end() {
	for _, sp := range s {
		telemetry.End(sp, nil)
	}
}

// MessageOf says of an op's span which message it is about.
func MessageOf(op *crdt.Op) []telemetry.Attribute {
	return telemetry.Message(op.Session, cmp.Or(op.OID, op.Run), op.Kind.String())
}

// applying starts the span of applying an op. Entries that a start finds in its own log were applied before it.
func (s *step) applying(op *crdt.Op, dot crdt.Dot) {
	if s.m.cfg.Tracer == nil || s.replayed {
		return
	}
	_, sp := telemetry.Start(telemetry.Below(context.Background(), op.Trace.ID, op.Trace.Span), s.m.cfg.Tracer,
		"apply", trace.SpanKindInternal, MessageOf(op)...)
	sp.SetAttributes(telemetry.KeyOrigin.String(string(dot.Origin)), telemetry.KeyPartition.Int(int(dot.Partition)),
		telemetry.KeyF.Int64(int64(dot.F)))
	s.spans = append(s.spans, sp)
}
