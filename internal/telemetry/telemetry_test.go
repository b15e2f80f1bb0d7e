package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(exp sdktrace.SpanExporter) Config {
	return Config{Exporter: exp, Service: "roam", Region: "beijing", Node: "n1"}
}

// running starts telemetry; stop ends it and waits.
func running(t *testing.T, cfg Config) (tel *Telemetry, stop func()) {
	t.Helper()
	tel, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tel.Run(ctx) }()
	return tel, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// kept keeps what it is given, also past its shutdown.
type kept struct {
	*tracetest.InMemoryExporter
}

func (kept) Shutdown(context.Context) error { return nil }

// sendOne starts and ends spans until one arrives: those that end before Run has begun are not sent.
func sendOne(t *testing.T, tel *Telemetry, ctx context.Context) {
	t.Helper()
	for testutil.ToFloat64(tel.metrics.sent) == 0 {
		_, s := Start(ctx, tel.Tracer(), "one", trace.SpanKindInternal)
		s.End()
		if err := tel.provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpansSayWhereTheyAre(t *testing.T) {
	exp := kept{tracetest.NewInMemoryExporter()}
	tel, stop := running(t, config(exp))
	sendOne(t, tel, Below(t.Context(), [16]byte{1}, [8]byte{2}))
	stop()
	s := exp.GetSpans()[0]
	if s.SpanContext.TraceID() != (trace.TraceID{1}) || s.Parent.SpanID() != (trace.SpanID{2}) || !s.SpanContext.IsSampled() {
		t.Errorf("span %v below %v", s.SpanContext, s.Parent)
	}
	attrs := s.Resource.String()
	for _, want := range []string{"service.name=roam", "cloud.region=beijing", "service.instance.id=beijing/n1", "roam.node=n1"} {
		if !strings.Contains(attrs, want) {
			t.Errorf("resource %s lacks %s", attrs, want)
		}
	}
}

func TestWithoutCollectorThereIsNoTracing(t *testing.T) {
	tel, stop := running(t, Config{})
	if tel.Tracer() != nil {
		t.Error("a tracer")
	}
	_, s := Start(t.Context(), nil, "none", trace.SpanKindInternal)
	End(s, errors.New("x"))
	if s.SpanContext().IsValid() {
		t.Error("a span")
	}
	stop()
}

// stuck is a collector that takes nothing until it is let go.
type stuck struct {
	kept
	entered chan struct{}
	once    sync.Once
	letGo   chan struct{}
}

func (s *stuck) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	s.once.Do(func() { close(s.entered) })
	<-s.letGo
	return errors.New("no")
}

// TestWhatDoesNotFitIsCounted: with a collector that hangs, ending a span never waits, and every span is accounted for.
func TestWhatDoesNotFitIsCounted(t *testing.T) {
	var log bytes.Buffer
	exp := &stuck{kept{tracetest.NewInMemoryExporter()}, make(chan struct{}), sync.Once{}, make(chan struct{})}
	cfg := config(exp)
	cfg.Logger, cfg.Metrics = slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry()
	tel, stop := running(t, cfg)
	ended := 0
	end := func() {
		_, s := tel.Tracer().Start(t.Context(), "s")
		s.End()
		ended++
	}
	dropped := func(why string) int { return int(testutil.ToFloat64(tel.metrics.dropped.WithLabelValues(why))) }
	for dropped(dropFull) < 100 {
		end()
	}
	<-exp.entered
	before := ended
	for range 100 {
		end()
	}
	if got := dropped(dropFull); got != 200 {
		t.Errorf("%d of 200 were counted", got)
	}
	close(exp.letGo)
	stop()
	if got := dropped(dropUnsent); got != maxWaiting || before < maxWaiting {
		t.Errorf("%d were given to the collector that took none; %d may wait", got, maxWaiting)
	}
	if n := strings.Count(log.String(), "spans are lost"); n != 1 {
		t.Errorf("the log says it %d times: %s", n, log.String())
	}
}

// TestCollectorThatHangs: a collector that accepts a connection and never answers does not keep the process from ending.
func TestCollectorThatHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 16)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	})
	cfg := config(nil)
	cfg.Endpoint, cfg.Metrics = ln.Addr().String(), prometheus.NewRegistry()
	tel, stop := running(t, cfg)
	var first net.Conn
	for first == nil { // those that end before Run are not sent
		_, s := tel.Tracer().Start(t.Context(), "s")
		s.End()
		select {
		case first = <-accepted:
		default:
		}
	}
	stop()
	if got := testutil.ToFloat64(tel.metrics.dropped.WithLabelValues(dropUnsent)); got == 0 {
		t.Error("nothing was counted")
	}
	ln.Close()
	accepting.Wait()
	first.Close()
	for c := range accepted {
		c.Close()
	}
}

func TestLogLinesBearTheSpan(t *testing.T) {
	var b bytes.Buffer
	plain := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	log := slog.New(LogHandler(plain)).With("region", "beijing").WithGroup("g")
	log.Info("without", "k", 1)
	log.InfoContext(Below(t.Context(), [16]byte{0xab}, [8]byte{0xcd}), "with", "k", 2)
	want := "level=INFO msg=without region=beijing g.k=1\n" +
		"level=INFO msg=with trace_id=ab000000000000000000000000000000 span_id=cd00000000000000 region=beijing g.k=2\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
