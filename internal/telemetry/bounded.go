package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// bounded is the library's batching, with a bound that is seen: the library drops what does not fit its queue without
// saying so. Here at most maxWaiting spans are given to it at a time, so that its own queue never overflows.
type bounded struct {
	sdktrace.SpanProcessor
	waiting atomic.Int64
	metrics *metrics
	lost    *sometimes
}

func newBounded(to sdktrace.SpanExporter, m *metrics, log *slog.Logger) *bounded {
	b := &bounded{metrics: m, lost: &sometimes{log: log, every: quiet}}
	b.SpanProcessor = sdktrace.NewBatchSpanProcessor(&counted{to, b},
		sdktrace.WithMaxQueueSize(maxWaiting), sdktrace.WithMaxExportBatchSize(maxBatch),
		sdktrace.WithBatchTimeout(sendEvery), sdktrace.WithExportTimeout(2*sendTimeout))
	return b
}

// OnEnd implements sdktrace.SpanProcessor. It never waits.
func (b *bounded) OnEnd(s sdktrace.ReadOnlySpan) {
	if b.waiting.Add(1) > maxWaiting {
		b.waiting.Add(-1)
		b.metrics.dropped.WithLabelValues(dropFull).Inc()
		b.lost.warn(nil)
		return
	}
	b.SpanProcessor.OnEnd(s)
}

// counted is an exporter that counts what becomes of spans. It reports no errors: the library would print them.
type counted struct {
	sdktrace.SpanExporter
	b *bounded
}

// ExportSpans implements sdktrace.SpanExporter.
func (c *counted) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	c.b.waiting.Add(-int64(len(spans)))
	if err != nil {
		c.b.metrics.dropped.WithLabelValues(dropUnsent).Add(float64(len(spans)))
		c.b.lost.warn(err)
		return nil
	}
	c.b.metrics.sent.Add(float64(len(spans)))
	return nil
}

// sometimes is a log line that does not come too often.
type sometimes struct {
	log   *slog.Logger
	every time.Duration

	mu   sync.Mutex // guards last
	last time.Time
}

func (s *sometimes) warn(err error) {
	s.mu.Lock()
	now := time.Now()
	say := s.last.IsZero() || now.Sub(s.last) >= s.every
	if say {
		s.last = now
	}
	s.mu.Unlock()
	if say {
		s.log.Warn("spans are lost: the collector at --otlp-endpoint does not take them; roam_trace_spans_dropped_total counts them",
			"err", err)
	}
}
