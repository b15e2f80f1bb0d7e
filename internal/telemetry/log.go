package telemetry

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// LogHandler adds trace_id and span_id to lines that are logged while a span is in the context, at the top level
// whatever groups are open.
func LogHandler(h slog.Handler) slog.Handler { return &logHandler{full: h, base: h} }

type logHandler struct {
	full slog.Handler // base with all of with applied
	base slog.Handler
	with []func(slog.Handler) slog.Handler
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.full.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return h.full.Handle(ctx, r)
	}
	traced := h.base.WithAttrs([]slog.Attr{
		slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()),
	})
	for _, step := range h.with {
		traced = step(traced)
	}
	return traced.Handle(ctx, r)
}

func (h *logHandler) then(step func(slog.Handler) slog.Handler) slog.Handler {
	return &logHandler{full: step(h.full), base: h.base, with: append(h.with[:len(h.with):len(h.with)], step)}
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.then(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return h.then(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}
