package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/dispatch/internal/stream"
)

// Worker answers a region's questions. Make it with New.
type Worker struct {
	cfg   Config
	met   *metrics
	name  string // of this worker in Redis: random
	keys  stream.Keys
	ready chan struct{}
	once  sync.Once // closes ready
}

// New checks the configuration. It starts nothing and does not need Redis to be there.
func New(cfg Config) (*Worker, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	cfg.defaults()
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	return &Worker{
		cfg: cfg, met: met, name: cfg.Nonce(), keys: stream.KeysOf(cfg.Region), ready: make(chan struct{}),
	}, nil
}

// Ready is closed when the worker is connected and announced for the first time.
func (w *Worker) Ready() <-chan struct{} { return w.ready }

// nonce names an attempt, or a worker, for ever.
func nonce() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// session is one Run, or one Hand.
type session struct {
	*Worker
	redis   *redis.Client // for commands
	jobs    *redis.Client // for blocked reads of jobs
	control *redis.Client // for blocked reads of control
	health  *stream.Health
	streams []string      // of jobs, the default model's first
	slots   chan struct{} // of Run: a token for each place that is taken
	renew   chan struct{} // holds one token when the announcement is to be made again
	turn    int           // reads of jobs so far; owned by who fetches
	pos     stream.ID     // in the control stream; owned by who hears

	mu    sync.Mutex // guards what follows
	works map[string]*work
}

// maxCommandConns bounds the connections for commands: answers share them.
const maxCommandConns = 32

func (w *Worker) open() (*session, error) {
	s := &session{
		Worker: w, health: &stream.Health{Log: w.cfg.Logger, Now: w.cfg.Now}, streams: []string{w.keys.Jobs("")},
		slots: make(chan struct{}, w.cfg.Concurrency), renew: make(chan struct{}, 1), works: map[string]*work{},
	}
	for _, m := range w.cfg.Models {
		s.streams = append(s.streams, w.keys.Jobs(m))
	}
	var err [3]error
	s.redis, err[0] = stream.Open(w.cfg.Redis, min(w.cfg.Concurrency+4, maxCommandConns), w.cfg.Dial)
	s.jobs, err[1] = stream.Open(w.cfg.Redis, 1, w.cfg.Dial)
	s.control, err[2] = stream.Open(w.cfg.Redis, 1, w.cfg.Dial)
	return s, errors.Join(err[:]...)
}

// Run works until ctx ends: it then takes no more jobs, and gives running answers the grace. It may be called again
// after it has returned. Redis may come and go.
func (w *Worker) Run(ctx context.Context) error {
	s, err := w.open()
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	working, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	defer s.redis.Close()
	defer context.AfterFunc(ctx, func() { s.jobs.Close() })()
	defer context.AfterFunc(working, func() { s.control.Close() })()

	var helpers, answers sync.WaitGroup
	if s.connect(ctx) {
		helpers.Go(func() { s.listen(working) })
		helpers.Go(func() { s.announce(ctx) })
		s.take(ctx, func(j *delivery) { answers.Go(func() { s.serve(working, j) }) })
	}
	s.wait(&answers, abort)
	abort()
	helpers.Wait()
	s.jobs.Close()
	s.control.Close()
	s.giveBack()
	return nil
}

// wait gives running answers the grace, then ends them.
func (s *session) wait(answers *sync.WaitGroup, abort func()) {
	done := make(chan struct{})
	go func() {
		answers.Wait()
		close(done)
	}()
	grace := time.NewTimer(max(s.cfg.Grace, 0))
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		abort()
		<-done
	}
}

// connect waits for Redis; it reports whether to go on.
func (s *session) connect(ctx context.Context) bool {
	retry := s.cfg.backoff(50*time.Millisecond, 2*time.Second)
	for s.arrive(ctx) != nil {
		if !retry.Wait(ctx) {
			return false
		}
	}
	return true
}

// arrive makes in Redis what the session needs, and finds where the control stream is: replies from then on are for
// this session.
func (s *session) arrive(ctx context.Context) error {
	pos, err := stream.Last(ctx, s.redis, s.keys.Control())
	if err == nil {
		err = s.makeGroups(ctx)
	}
	if err == nil {
		err = s.show(ctx)
	}
	if err != nil {
		s.failed(ctx, "connect", err)
		return err
	}
	s.pos = pos
	s.health.OK()
	s.once.Do(func() { close(s.ready) })
	return nil
}

// failed notes that an operation on Redis failed.
func (s *session) failed(ctx context.Context, op string, err error) {
	if ctx.Err() == nil {
		s.met.failures.WithLabelValues(op).Inc()
		s.health.Failed(ctx, op, err)
	}
}

// makeGroups creates the consumer groups that are not there, from the start of their streams: what waits is taken.
func (s *session) makeGroups(ctx context.Context) error {
	pipe := s.redis.Pipeline()
	for _, key := range s.streams {
		pipe.XGroupCreateMkStream(ctx, key, stream.Group, "0")
	}
	cmds, err := pipe.Exec(ctx)
	for _, c := range cmds {
		if c.Err() != nil && !stream.GroupExists(c.Err()) {
			return fmt.Errorf("make group: %w", c.Err())
		}
	}
	if err != nil && !stream.GroupExists(err) {
		return fmt.Errorf("make groups: %w", err)
	}
	return nil
}
