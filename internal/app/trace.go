package app

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/roamsync/roam/internal/telemetry"
)

// CollectorOptions say where spans go. They are part of serve's, worker's and dev's.
type CollectorOptions struct {
	OTLPEndpoint string `name:"otlp-endpoint" placeholder:"H:P" help:"OTLP (gRPC, without TLS) address of an OpenTelemetry collector. Without it there are no traces."`

	// Exporter takes spans in the collector's place, for tests.
	Exporter sdktrace.SpanExporter `kong:"-"`
}

// TraceOptions say where spans go and which messages have any. They are part of serve's and dev's: a worker follows
// what the job says.
type TraceOptions struct {
	CollectorOptions
	TraceSample float64 `default:"0.01" help:"With --otlp-endpoint: the share of puts whose journey is traced, 0 to 1. Clients may ask for a few more (traceparent)."`
}

func (o *CollectorOptions) check() error {
	if o.OTLPEndpoint == "" {
		return nil
	}
	return checkAddr("--otlp-endpoint", o.OTLPEndpoint)
}

func (o *TraceOptions) check() error {
	if !(o.TraceSample >= 0 && o.TraceSample <= 1) { // not a number is neither
		return errors.Join(fmt.Errorf("--trace-sample %v: 0 to 1", o.TraceSample), o.CollectorOptions.check())
	}
	return o.CollectorOptions.check()
}

func (o *CollectorOptions) open(service, region, node string, log *slog.Logger, reg prometheus.Registerer) (*telemetry.Telemetry, error) {
	return telemetry.New(telemetry.Config{
		Endpoint: o.OTLPEndpoint, Exporter: o.Exporter, Service: service, Region: region, Node: node, Logger: log, Metrics: reg,
	})
}

func (n *node) openTelemetry(KeyRing) (err error) {
	n.telemetry, err = n.opts.CollectorOptions.open("roam", n.opts.Region, n.opts.Node, n.log, n.reg)
	return err
}
