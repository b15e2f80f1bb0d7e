package region

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/telemetry"
	"github.com/roamsync/roam/region/machine"
)

// spans are of ops whose journey is watched; nil for nearly all.
type spans []trace.Span

func (s spans) end(err error) {
	for _, sp := range s {
		telemetry.End(sp, err)
	}
}

// proposing starts the span of proposing ops, one for each trace among them. What happens to the ops from here on, in
// every region, is below it.
func (r *Region) proposing(ops []*crdt.Op) (all spans) {
	var last, below *crdt.Trace
	for _, op := range ops {
		if op.Trace == nil || r.cfg.Tracer == nil {
			continue
		}
		if op.Trace != last {
			_, sp := telemetry.Start(telemetry.Below(context.Background(), op.Trace.ID, op.Trace.Span), r.cfg.Tracer,
				"propose", trace.SpanKindInternal, machine.MessageOf(op)...)
			sc := sp.SpanContext()
			last, below = op.Trace, &crdt.Trace{ID: sc.TraceID(), Span: sc.SpanID(), Flags: byte(sc.TraceFlags())}
			all = append(all, sp)
		}
		op.Trace = below
	}
	return all
}
