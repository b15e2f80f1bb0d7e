package replication

import (
	"cmp"
	"context"
	"strings"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/internal/telemetry"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// crossing is one record's way over a link, of an op whose journey is watched.
type crossing struct {
	f    uint64
	span trace.Span
}

// crossings starts a span for each record whose op is watched: none of nearly all.
func (l *Links) crossings(name string, kind trace.SpanKind, peer string, rs *wire.Records) (all []crossing) {
	if l.cfg.Tracer == nil {
		return nil
	}
	for i, record := range rs.Records {
		op := wire.TracedOp(record)
		if op == nil {
			continue
		}
		_, sp := telemetry.Start(telemetry.Below(context.Background(), op.Trace.ID, op.Trace.Span), l.cfg.Tracer, name, kind,
			telemetry.Message(op.Session, cmp.Or(op.OID, op.Run), op.Kind.String())...)
		f := rs.From + uint64(i)
		sp.SetAttributes(semconv.RPCSystemNameGRPC, semconv.RPCMethod(strings.TrimPrefix(peerpb.Peer_Feeds_FullMethodName, "/")),
			telemetry.KeyPeer.String(peer), telemetry.KeyOrigin.String(string(rs.Origin)),
			telemetry.KeyPartition.Int(int(rs.Partition)), telemetry.KeyF.Int64(int64(f)))
		all = append(all, crossing{f, sp})
	}
	return all
}

// arrived ends the spans of what is committed up to a cursor, and returns the others.
func arrived(all []crossing, cursor uint64) []crossing {
	for len(all) > 0 && all[0].f <= cursor {
		all[0].span.End()
		all = all[1:]
	}
	return all
}

// end ends the spans, with what went wrong if something did.
func end(all []crossing, why error) {
	for _, c := range all {
		telemetry.End(c.span, why)
	}
}
