package wan

import (
	"math"
	"slices"
	"time"
)

// sample is a message that took some time, at the time when it was due, both since the start of the load.
type sample struct{ due, took time.Duration }

// spread is a distribution.
type spread struct {
	n                  int
	p50, p90, p99, max time.Duration
}

func spreadOf(all []sample) spread {
	if len(all) == 0 {
		return spread{}
	}
	took := make([]time.Duration, len(all))
	for i, s := range all {
		took[i] = s.took
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))] }
	return spread{len(took), at(0.5), at(0.9), at(0.99), at(1)}
}

// within are those that were due in some time.
func within(all []sample, from, to time.Duration) (some []sample) {
	for _, s := range all {
		if s.due >= from && s.due < to {
			some = append(some, s)
		}
	}
	return some
}

// acks are the times from when a message was due to its ok; deliveries those to each other device, which is in another region.
// Times are since since.
func (c *crowd) acks(since time.Duration) (all []sample) {
	c.each(func(p *put) {
		if p.ok > 0 {
			all = append(all, sample{p.due - since, p.ok - p.due})
		}
	})
	return all
}

func (c *crowd) deliveries(since time.Duration) (all []sample) {
	return c.deliveriesOf(since, 0, math.MaxInt64)
}

// deliveriesOf are those of what was due in some time.
func (c *crowd) deliveriesOf(since, from, to time.Duration) (all []sample) {
	c.each(func(p *put) {
		if p.due < from || p.due >= to {
			return
		}
		for i, at := range p.shown {
			if i != p.from && at > 0 {
				all = append(all, sample{p.due - since, at - p.due})
			}
		}
	})
	return all
}

func (c *crowd) each(what func(*put)) {
	for _, t := range c.talks {
		t.mu.Lock()
		for _, p := range t.puts {
			if p.from >= 0 {
				what(p)
			}
		}
		t.mu.Unlock()
	}
}
