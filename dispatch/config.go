package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire"
)

// Commits is a Raft group of the region as dispatch sees it; region.Commits is one. Its methods may be called concurrently.
type Commits interface {
	// Answer commits workers' reports in order, with the position in the results stream that they end at; position ""
	// leaves it as it is, and no ops with a position move only that. It returns what each came to. An error that
	// wraps wire.ErrUnavailable is ambiguous: the same may be tried again.
	Answer(ctx context.Context, ops []*crdt.Op, position string) ([]crdt.Held, error)
	// Open returns the answers that are not closed, and the committed position in the results stream.
	Open() (runs []wire.OpenRun, position string, err error)
	// View reads one session.
	View(session string, read func(crdt.Store)) error
	// Watch calls fn after every commit, in order; fn does not block.
	Watch(fn func([]wire.Event)) (stop func())
}

// Config says how to dispatch. Zero durations mean the default.
type Config struct {
	// Region is this region's name. Required.
	Region string
	// Commits is the region, or one Raft group of it. Required.
	Commits Commits
	// Group is which group that is. Each has its own stream of results.
	Group uint32
	// Redis is a URL, redis:// or rediss://. Required.
	Redis string
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
	// Registerer gets the metrics; nil keeps them private.
	Registerer prometheus.Registerer
	// Tracer begins the spans of answers that are watched; nil: none.
	Tracer trace.Tracer
	// Abroad is what is known of other regions. Nil: answers that they do not bring wait for them.
	Abroad Abroad
	// TakeoverAfter is how long a region must not have been heard before the answers that it was to bring are brought here, if somebody here
	// waits for them. 0: never.
	TakeoverAfter time.Duration
	// Now is the clock that stamps are of, and so leases: the region's, which jumps when it is set right. nil is time.Now.
	Now func() time.Time
	// Machine is the clock that all else is measured by. It does not jump. nil is Now.
	Machine func() time.Time

	// Dial makes the connections to Redis, with no timeout of ours on them. nil dials the machine's network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Wait waits before something is tried again, or until ctx ends, and reports whether to go on. nil waits by the
	// machine's clock.
	Wait func(ctx context.Context, d time.Duration) bool
	// Draw draws a number from 0 to below n, for how long to wait. It may be called concurrently. nil draws at random.
	Draw func(n int64) int64

	// Tick is how often due answers are looked at without an event; default 250 ms.
	Tick time.Duration
	// Block is how long a read of results waits, and so how soon a stream that was lost is noticed; at least 1 ms,
	// default 1 s.
	Block time.Duration
	// PollWorkers is how often the list of workers is read; default 1 s.
	PollWorkers time.Duration
	// CheckAfter is how long after a job was added, and then how often, its entry is looked for; default 2 s.
	CheckAfter time.Duration
	// StaleAfter is how long a worker may hold a job without a begin before it is added again; default 10 s.
	StaleAfter time.Duration
	// UnservedAfter is how long workers may be there and none serve a model before its answers fail; default 5 s.
	UnservedAfter time.Duration
}

func (c *Config) check() error {
	var errs []error
	if !crdt.ValidRegion(c.Region) {
		errs = append(errs, fmt.Errorf("region %q is not 1 to 32 of a-z, 0-9 and -", c.Region))
	}
	if c.Commits == nil {
		errs = append(errs, errors.New("commits are missing"))
	}
	if probe, err := stream.Open(c.Redis, 1, c.Dial); err != nil {
		errs = append(errs, err)
	} else {
		probe.Close()
	}
	for _, d := range []*time.Duration{&c.Tick, &c.Block, &c.PollWorkers, &c.CheckAfter, &c.StaleAfter, &c.UnservedAfter, &c.TakeoverAfter} {
		if *d < 0 {
			errs = append(errs, errors.New("a duration is negative"))
		}
	}
	if c.Block != 0 && c.Block < time.Millisecond {
		errs = append(errs, errors.New("block is below 1 ms, which Redis takes for ever"))
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
	if c.Machine == nil {
		c.Machine = c.Now
	}
	orElse(&c.Tick, 250*time.Millisecond)
	orElse(&c.Block, time.Second)
	orElse(&c.PollWorkers, time.Second)
	orElse(&c.CheckAfter, 2*time.Second)
	orElse(&c.StaleAfter, 10*time.Second)
	orElse(&c.UnservedAfter, 5*time.Second)
}

// moment is a time, by both clocks.
type moment struct {
	time.Time           // the machine's: what is due, and since when something is so
	wall      time.Time // the region's: what is compared with stamps
}

func (c *Config) moment() moment { return moment{c.Machine(), c.Now()} }

func orElse(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

func (c *Config) backoff(first, most time.Duration) *stream.Backoff {
	return &stream.Backoff{Min: first, Max: most, Draw: c.Draw, Sleep: c.Wait}
}

// label is the group as a label of gauges.
func (c *Config) label() string { return strconv.FormatUint(uint64(c.Group), 10) }

// ForGroup returns a Dispatch for another group of the same region, which counts in the same metrics.
func (d *Dispatch) ForGroup(group uint32, commits Commits) *Dispatch {
	cfg := d.cfg
	cfg.Group, cfg.Commits = group, commits
	d.met.none(cfg.label())
	return &Dispatch{cfg: cfg, met: d.met}
}

// Dispatch joins a region to its Redis. Make it with New.
type Dispatch struct {
	cfg Config
	met *metrics
}

// New checks the configuration. It starts nothing and does not need Redis to be there.
func New(cfg Config) (*Dispatch, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	cfg.defaults()
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	met.none(cfg.label())
	return &Dispatch{cfg: cfg, met: met}, nil
}
