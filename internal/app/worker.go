package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9/logging"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/dispatch/worker"
	"github.com/roamsync/roam/internal/telemetry"
)

// Worker runs `roam worker` until ctx ends.
func Worker(ctx context.Context, o WorkerOptions, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	log, reg := newLogger(stderr, o.LogLevel), newRegistry()
	tel, err := o.CollectorOptions.open("roam-worker", o.Region, "", log, reg)
	if err != nil {
		return err
	}
	w, err := newWorker(o, nil, log, reg, tel.Tracer())
	if err != nil {
		return err
	}
	admin, err := listenWorkerAdmin(o.AdminAddr, reg, w.Ready())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	sending, sent := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return tel.Run(sending) })
	g.Go(func() error { return admin.run(ctx) })
	g.Go(func() error {
		defer sent() // its last spans too
		return w.Run(ctx)
	})
	g.Go(func() error {
		select {
		case <-w.Ready():
			fmt.Fprintf(stdout, "ready worker region=%s\n", o.Region)
		case <-ctx.Done():
		}
		return nil
	})
	return g.Wait()
}

// newWorker makes a worker that reaches Redis by dial; nil is the machine's network.
func newWorker(o WorkerOptions, dial func(context.Context, string, string) (net.Conn, error), log *slog.Logger, reg prometheus.Registerer,
	tracer trace.Tracer) (*worker.Worker, error) {
	model, names, err := o.answering(o.LLM, o.TokenDelay, log, reg)
	if err != nil {
		return nil, err
	}
	return worker.New(worker.Config{
		Redis: o.Redis, Region: o.Region, Models: names, Concurrency: o.Concurrency, LLM: model, Provider: o.LLM, Logger: log, Registerer: reg,
		Tracer: tracer, Dial: dial,
	})
}

// newLogger writes text lines; stdout is kept for what scripts read. It also keeps go-redis from writing to stderr
// beside the log: what that has to say comes back as errors. Lines of what is traced bear the trace's id.
func newLogger(w io.Writer, level string) *slog.Logger {
	logging.Disable()
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(telemetry.LogHandler(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})))
}
