package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/dispatch/llm"
)

// Config says what to work on. Zero durations and counts mean the default.
type Config struct {
	// Redis is the region's, as a URL. Required.
	Redis string
	// Region is the region to work for. Required.
	Region string
	// Models are the models served; the first also answers who asks for none. At least one, at most 64.
	Models []string
	// Concurrency is how many answers are made at once; default 64.
	Concurrency int
	// LLM makes the answers. Required.
	LLM llm.LLM
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
	// Registerer gets the metrics; nil keeps them private.
	Registerer prometheus.Registerer
	// Tracer begins the spans of answers that are watched; nil: none.
	Tracer trace.Tracer
	// Provider is who runs the model, as gen_ai.provider.name says it: openai, …; default "echo".
	Provider string

	// Dial makes the connections to Redis, with no timeout of ours on them. nil dials the machine's network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Now is the worker's clock; a Hand is told the time instead. nil is time.Now.
	Now func() time.Time
	// Nonce returns a name that no worker and no attempt has ever had. It may be called concurrently. nil: a random one.
	Nonce func() string
	// Draw draws a number from 0 to below n, for how long to wait. It may be called concurrently. nil draws at random.
	Draw func(n int64) int64

	// Grace is how long running answers may go on after Run was told to end; default 5 s, below zero not at all. What
	// does not end in it is left to another worker, once its lease has run out.
	Grace time.Duration
	// MaxAnswer bounds an answer, in bytes; it ends there with "length". Default 1 MiB.
	MaxAnswer int
	// Announce is how often this worker shows that it lives; default 3 s. It counts as dead after 10 s.
	Announce time.Duration
	// Silence is how long an answer may stay silent before a sign of life is sent; default 5 s, below crdt.LeaseTTL.
	Silence time.Duration
	// Resend is how long to wait for the region's confirmation before asking for it, at first; default 1 s.
	Resend time.Duration
	// Block is how long a read waits; at least 1 ms, default 1 s.
	Block time.Duration
}

// Bounds of a configuration.
const (
	maxModels      = 64
	maxModelName   = 128
	maxConcurrency = 10_000
)

func (c *Config) check() error {
	var errs []error
	if !crdt.ValidRegion(c.Region) {
		errs = append(errs, fmt.Errorf("region %q is not 1 to 32 of a-z, 0-9 and -", c.Region))
	}
	if c.LLM == nil {
		errs = append(errs, errors.New("an LLM is missing"))
	}
	if len(c.Models) == 0 || len(c.Models) > maxModels {
		errs = append(errs, fmt.Errorf("%d models: 1 to %d are served", len(c.Models), maxModels))
	}
	seen := map[string]bool{}
	for _, m := range c.Models {
		if m == "" || len(m) > maxModelName || strings.ContainsFunc(m, func(r rune) bool { return r < ' ' }) || seen[m] {
			errs = append(errs, fmt.Errorf("model %q is empty, too long, has control characters, or comes twice", m))
		}
		seen[m] = true
	}
	if c.Concurrency < 0 || c.Concurrency > maxConcurrency {
		errs = append(errs, fmt.Errorf("concurrency %d is not 1 to %d", c.Concurrency, maxConcurrency))
	}
	if c.MaxAnswer < 0 || c.Announce < 0 || c.Silence < 0 || c.Resend < 0 || c.Silence >= crdt.LeaseTTL {
		errs = append(errs, errors.New("a bound is negative, or silence is as long as the lease"))
	}
	if c.Block != 0 && c.Block < time.Millisecond {
		errs = append(errs, errors.New("block is below 1 ms, which Redis takes for ever"))
	}
	if probe, err := stream.Open(c.Redis, 1, c.Dial); err != nil {
		errs = append(errs, err)
	} else {
		probe.Close()
	}
	return errors.Join(errs...)
}

func (c *Config) defaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Nonce == nil {
		c.Nonce = nonce
	}
	c.Provider = cmp.Or(c.Provider, "echo")
	orElse(&c.Concurrency, 64)
	orElse(&c.MaxAnswer, 1<<20)
	orElse(&c.Grace, 5*time.Second)
	orElse(&c.Announce, 3*time.Second)
	orElse(&c.Silence, 5*time.Second)
	orElse(&c.Resend, time.Second)
	orElse(&c.Block, time.Second)
}

func (c *Config) backoff(first, most time.Duration) stream.Backoff {
	return stream.Backoff{Min: first, Max: most, Draw: c.Draw}
}

func orElse[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// metrics count what the worker does; label values are the constants below.
type metrics struct {
	jobs     *prometheus.CounterVec // outcome
	resends  *prometheus.CounterVec // reason
	failures *prometheus.CounterVec // op on Redis that failed
	running  prometheus.Gauge
	first    prometheus.Histogram // time to the first piece
	answer   prometheus.Histogram
}

// What became of a job.
const (
	jobDone      = "done"      // the region has the whole answer
	jobDropped   = "dropped"   // the region did not want it, or no longer
	jobMalformed = "malformed" // it could not be read
	jobLeft      = "left"      // the worker ended first
)

// Why something was sent again.
const (
	resendGap    = "gap"    // the region misses a piece
	resendSilent = "silent" // the region did not confirm in time
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "roam_worker_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		jobs:     counter("jobs_total", "Jobs taken, by outcome.", "outcome"),
		resends:  counter("resends_total", "Times that output was sent again or asked for, by why.", "reason"),
		failures: counter("redis_failures_total", "Operations on Redis that failed, by operation.", "op"),
		running:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "roam_worker_running_answers", Help: "Answers in work."}),
		first: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "roam_worker_first_piece_seconds", Help: "Time from asking the model to its first piece.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 14)}),
		answer: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "roam_worker_answer_seconds", Help: "Time from taking a job until the region had the whole answer.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 14)}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.jobs, m.resends, m.failures, m.running, m.first, m.answer} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
