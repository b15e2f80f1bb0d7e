package bench

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// counts is what a run comes to, for all sessions together.
type counts struct {
	warmup, end time.Duration

	sent, acked, delivered, retried, reconnects, late atomic.Int64
	// Of what was due in the measured time: all, and what had its ok before that was over.
	offered, inTime atomic.Int64

	lost, doubled, unseen, disordered, unknown atomic.Int64

	mu        sync.Mutex
	latencies map[string]*hdrhistogram.Histogram // µs
	errors    map[string]int64
	answers   map[string]int64 // by state
}

const (
	// lateAfter is from when on a send counts as late: the generator's own fault.
	lateAfter = 10 * time.Millisecond
	// maxLatency is the longest that is told apart, with three digits.
	maxLatency = 10 * time.Minute
)

func newCounts(c *Config) *counts {
	return &counts{
		warmup: c.Warmup, end: c.Warmup + c.Duration, latencies: map[string]*hdrhistogram.Histogram{},
		errors: map[string]int64{}, answers: map[string]int64{},
	}
}

func (c *counts) measured(due time.Duration) bool { return due >= c.warmup && due < c.end }

func (c *counts) record(what string, due, took time.Duration) {
	if !c.measured(due) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.latencies[what]
	if h == nil {
		h = hdrhistogram.New(1, maxLatency.Microseconds(), 3)
		c.latencies[what] = h
	}
	_ = h.RecordValue(min(max(took, time.Microsecond), maxLatency).Microseconds()) // within its bounds
}

func (c *counts) ok(k kind, due, took time.Duration) {
	c.acked.Add(1)
	if c.measured(due) && due+took <= c.end {
		c.inTime.Add(1)
	}
	c.record(kindNames[k]+" → ok", due, took)
}

func (c *counts) deliver(due, took time.Duration) {
	c.delivered.Add(1)
	c.record("put → other device", due, took)
}

func (c *counts) began(due, took time.Duration) { c.record("chat → first token", due, took) }

func (c *counts) answered(due, took time.Duration, state string) {
	c.record("chat → whole answer", due, took)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[state]++
}

func (c *counts) fail(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errors[code]++
}

// p99 of put → ok so far, for the line of progress.
func (c *counts) p99() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range kindNames {
		if h := c.latencies[k+" → ok"]; h != nil {
			return time.Duration(h.ValueAtQuantile(99)) * time.Microsecond
		}
	}
	return 0
}
