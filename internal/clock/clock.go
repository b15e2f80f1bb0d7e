// Package clock is a node's clock: the machine's, held against those of the nodes that it hears, and set right where it is far off.
//
// Order never depends on it: stamps grow whatever a clock does (crdt.Clock). What does is which of two concurrent edits stands,
// how long a worker's lease lasts, and which time a message shows. A clock that is wrong has to harm none but its own node's.
package clock

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// limit is how far a clock may be off before it is set right.
	limit = 500 * time.Millisecond
	// slack is by how much a correction has to be wrong before it changes: measurements vary with the way.
	slack = 100 * time.Millisecond
	// maxTrip is the longest round trip that is measured on: half of it is how wrong that may be.
	maxTrip = 800 * time.Millisecond
	// fresh is for how long a measurement counts: each of some fifty nodes is asked within this.
	fresh = 2 * time.Minute
	// settling is how long nodes are heard, after the first of them, before anything is decided.
	settling = 10 * time.Second
	// maxPeers bounds the nodes that are remembered; beyond, measurements of new ones are dropped and counted.
	maxPeers = 1024
)

// Config says what a clock is made from. Machine is needed.
type Config struct {
	Machine func() time.Time // what the machine shows
	Logger  *slog.Logger     // nil: none
	Metrics prometheus.Registerer
}

// Clock is for any goroutine.
type Clock struct {
	cfg        Config
	correction atomic.Int64 // ns that are added to what the machine shows
	dropped    prometheus.Counter

	mu    sync.Mutex // guards what follows
	begun time.Time  // when the first node was heard, or the first after all had been silent
	peers map[string]reading
	off   time.Duration // by which the machine is behind the median, below 0: ahead
}

// reading is how far ahead of this machine another's clock is.
type reading struct {
	ahead time.Duration
	at    time.Time
}

// New returns a clock that shows what the machine does.
func New(cfg Config) *Clock {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	c := &Clock{cfg: cfg, peers: map[string]reading{}, dropped: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "roam_clock_dropped_total", Help: "Measurements of other nodes' clocks that were not taken: the way was too slow, or there were too many nodes.",
	})}
	cfg.Metrics.MustRegister(c.dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "roam_clock_offset_seconds", Help: "How far the machine's clock is ahead of the median of all nodes that are heard; below 0: behind.",
	}, func() float64 { return c.Status().Ahead.Seconds() }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "roam_clock_correction_seconds", Help: "What the node adds to its machine's clock since that is far off; 0: nothing.",
	}, func() float64 { return c.Status().Correction.Seconds() }))
	return c
}

// Machine is what the machine shows: what other nodes are told.
func (c *Clock) Machine() time.Time { return c.cfg.Machine() }

// Now is the time.
func (c *Clock) Now() time.Time { return c.cfg.Machine().Add(time.Duration(c.correction.Load())) }

// Heard takes what another node's machine showed in the middle of a round trip that has just ended.
func (c *Clock) Heard(node string, showed time.Time, trip time.Duration) {
	if say := c.heard(node, showed, trip, time.Now()); say != nil {
		say()
	}
}

// heard is Heard, and returns what is to be said of it, if anything.
func (c *Clock) heard(node string, showed time.Time, trip time.Duration, now time.Time) (say func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.peers, func(_ string, r reading) bool { return now.Sub(r.at) > fresh })
	if _, known := c.peers[node]; trip < 0 || trip > maxTrip || !known && len(c.peers) >= maxPeers {
		c.dropped.Inc()
		return nil
	}
	if len(c.peers) == 0 {
		c.begun = now
	}
	// Without monotonic readings, which know nothing of a clock that was set.
	c.peers[node] = reading{showed.Add(trip / 2).Round(0).Sub(c.cfg.Machine().Round(0)), now}
	if now.Sub(c.begun) < settling {
		return nil
	}
	return c.judge()
}

// judge sets the clock right, or lets it be, and returns what is to be said of that. Holding mu.
func (c *Clock) judge() (say func()) {
	var all []time.Duration
	for _, r := range c.peers {
		all = append(all, r.ahead)
	}
	c.off = median(all)
	was := time.Duration(c.correction.Load())
	is := correct(was, c.off)
	if is == was {
		return nil
	}
	c.correction.Store(int64(is))
	if is == 0 {
		return func() { c.cfg.Logger.Info("the machine's clock is right again", "was_corrected_by", was) }
	}
	off := c.off
	return func() {
		c.cfg.Logger.Warn("the machine's clock is wrong: set it right (NTP). Until then it is corrected here", "ahead_by", -off, "of_nodes", len(all), "correction", is)
	}
}

// median is that of all clocks, given how far the others are ahead of this one. Of two in the middle it is the earlier, so that of two
// nodes the one whose clock is ahead gives way: one that is behind is drawn on by the stamps that it sees.
func median(others []time.Duration) time.Duration {
	all := append(slices.Clone(others), 0)
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// correct is what is to be added to a clock that is off, given what is added now.
func correct(was, off time.Duration) time.Duration {
	switch {
	case was == 0 && off.Abs() <= limit, was != 0 && off.Abs() <= limit/2:
		return 0
	case (off - was).Abs() <= slack:
		return was
	}
	return off
}

// Status is how a clock is.
type Status struct {
	Ahead      time.Duration `json:"ahead"`      // of the median, ns; below 0: behind
	Correction time.Duration `json:"correction"` // ns; 0: none
	Nodes      int           `json:"nodes"`      // that it is held against
}

// Status returns how the clock is.
func (c *Clock) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{Ahead: -c.off, Correction: time.Duration(c.correction.Load()), Nodes: len(c.peers)}
}
