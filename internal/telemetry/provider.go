package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxWaiting bounds the spans that have ended and are not sent. What comes beyond is dropped and counted.
	maxWaiting = 2048
	// maxBatch bounds the spans of one request.
	maxBatch = 512
	// sendEvery is how long a span waits for others at most.
	sendEvery = time.Second
	// sendTimeout bounds all tries of one request, leaveTimeout the last requests when the process ends.
	sendTimeout  = 5 * time.Second
	leaveTimeout = 2 * time.Second
	// quiet is how often at most the log says that spans are lost.
	quiet = time.Minute
	// scope names what made the spans.
	scope = "github.com/roamsync/roam"
)

// Config says whose spans go where.
type Config struct {
	// Endpoint is the collector's OTLP gRPC address, HOST:PORT, without TLS. Empty, without an Exporter: no tracing.
	Endpoint string
	// Exporter replaces the collector. Nil: OTLP to Endpoint.
	Exporter sdktrace.SpanExporter
	// Service is what the process is: roam, or roam-worker.
	Service string
	// Region and Node say where it is; Node may be empty.
	Region, Node string
	// Logger is told, at most once a minute, that spans are lost. Nil discards.
	Logger *slog.Logger
	// Metrics gets the counters. Nil keeps them private.
	Metrics prometheus.Registerer
}

// Telemetry is a process's way to its collector. See New.
type Telemetry struct {
	cfg      Config
	provider *sdktrace.TracerProvider // nil: no tracing
	metrics  *metrics
}

// New prepares telemetry and starts nothing: spans that end before Run are not sent.
func New(cfg Config) (*Telemetry, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	t := &Telemetry{cfg: cfg, metrics: newMetrics(cfg.Metrics)}
	if cfg.Endpoint == "" && cfg.Exporter == nil {
		return t, nil
	}
	if cfg.Service == "" || cfg.Region == "" {
		return nil, errors.New("telemetry: Service and Region are needed")
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // who starts a span has decided that the message is watched
		sdktrace.WithResource(resource.NewWithAttributes(semconv.SchemaURL, resourceOf(cfg)...)),
	)
	return t, nil
}

func resourceOf(cfg Config) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		semconv.ServiceName(cfg.Service), semconv.CloudRegion(cfg.Region), attribute.String("roam.region", cfg.Region),
	}
	if cfg.Node != "" {
		attrs = append(attrs, semconv.ServiceInstanceID(cfg.Region+"/"+cfg.Node), attribute.String("roam.node", cfg.Node))
	}
	return attrs
}

// Tracer starts spans. It is nil if there is no tracing.
func (t *Telemetry) Tracer() trace.Tracer {
	if t.provider == nil {
		return nil
	}
	return t.provider.Tracer(scope)
}

// Run sends spans until ctx ends, and then, for a moment, what is left. It does not need the collector to be there.
func (t *Telemetry) Run(ctx context.Context) error {
	if t.provider == nil {
		<-ctx.Done()
		return nil
	}
	exporter, err := t.exporter(ctx)
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	t.provider.RegisterSpanProcessor(newBounded(exporter, t.metrics, t.cfg.Logger))
	<-ctx.Done()
	t.leave(exporter)
	return nil
}

// leave sends what is left. Ending the exporter is what ends a request that the collector does not answer.
func (t *Telemetry) leave(exporter sdktrace.SpanExporter) {
	var waiting sync.WaitGroup
	left := make(chan struct{})
	waiting.Go(func() {
		late := time.NewTimer(leaveTimeout)
		defer late.Stop()
		select {
		case <-left:
		case <-late.C:
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = exporter.Shutdown(ctx) // it says that the context has ended
		}
	})
	if err := t.provider.Shutdown(context.Background()); err != nil {
		t.cfg.Logger.Debug("shutdown of tracing", "err", err)
	}
	close(left)
	waiting.Wait()
}

func (t *Telemetry) exporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if t.cfg.Exporter != nil {
		return t.cfg.Exporter, nil
	}
	return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(t.cfg.Endpoint), otlptracegrpc.WithInsecure(),
		otlptracegrpc.WithTimeout(sendTimeout),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{
			Enabled: true, InitialInterval: sendEvery, MaxInterval: sendTimeout, MaxElapsedTime: sendTimeout,
		}))
}

type metrics struct {
	sent    prometheus.Counter
	dropped *prometheus.CounterVec
}

// Why spans were dropped.
const (
	dropFull   = "full"   // maxWaiting spans wait already
	dropUnsent = "unsent" // the collector did not take them
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "roam_trace_spans_sent_total", Help: "Spans that the collector took."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_trace_spans_dropped_total", Help: "Spans that were lost, by reason.",
		}, []string{"reason"}),
	}
	reg.MustRegister(m.sent, m.dropped)
	return m
}
