package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9/logging"
	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/dispatch/worker"
)

// Worker runs `roam worker` until ctx ends.
func Worker(ctx context.Context, o WorkerOptions, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	w, err := newWorker(o, newLogger(stderr, o.LogLevel), nil)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.Run(ctx) })
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

func newWorker(o WorkerOptions, log *slog.Logger, reg prometheus.Registerer) (*worker.Worker, error) {
	model, names, err := o.answering(o.LLM, o.TokenDelay, log, reg)
	if err != nil {
		return nil, err
	}
	return worker.New(worker.Config{
		Redis: o.Redis, Region: o.Region, Models: names, Concurrency: o.Concurrency, LLM: model, Logger: log, Registerer: reg,
	})
}

// newLogger writes text lines; stdout is kept for what scripts read. It also keeps go-redis from writing to stderr
// beside the log: what that has to say comes back as errors.
func newLogger(w io.Writer, level string) *slog.Logger {
	logging.Disable()
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l}))
}
