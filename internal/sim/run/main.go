// Command run runs the simulator over many seeds, and tells the story of those that break a promise.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/roamsync/roam/internal/sim"
)

type options struct {
	seeds, base, shrink int
	seed                string
	minutes             float64
	jobs                int
	all, quiet          bool
}

func main() {
	debug.SetGCPercent(400) // worlds are small and short
	var o options
	flag.IntVar(&o.seeds, "seeds", 1000, "how many `seeds` to run")
	flag.IntVar(&o.base, "base", 1, "the first `seed`")
	flag.StringVar(&o.seed, "seed", "", "run this `seed` alone, and tell its story")
	flag.Float64Var(&o.minutes, "minutes", 0, "stop after so many `minutes`; 0: when the seeds are done")
	flag.IntVar(&o.shrink, "shrink", 400, "how many `runs` may be spent on making a failing seed's story short")
	flag.IntVar(&o.jobs, "jobs", runtime.GOMAXPROCS(0), "`runs` at once")
	flag.BoolVar(&o.quiet, "quiet", false, "tell no story and no progress")
	flag.BoolVar(&o.all, "all", false, "go on after a seed has failed")
	flag.Parse()
	debug.SetGCPercent(800)
	if o.seed != "" {
		os.Exit(one(&o))
	}
	os.Exit(many(&o))
}

// one runs a seed, twice, and tells its story.
func one(o *options) int {
	var seed uint64
	if _, err := fmt.Sscan(o.seed, &seed); err != nil {
		fmt.Fprintf(os.Stderr, "-seed %q: a number is needed\n", o.seed)
		return 2
	}
	r := sim.Run(sim.NewPlan(seed), print)
	fmt.Printf("seed %d: %s of virtual time, %d steps, hash %016x\n", seed, r.Virtual, r.Steps, r.Hash)
	if again := sim.Run(sim.NewPlan(seed), nil); again.Hash != r.Hash {
		fmt.Printf("seed %d does not repeat itself: hash %016x the second time\n", seed, again.Hash)
		return 1
	}
	if r.Violation == nil {
		return 0
	}
	story(o, r)
	return 1
}

func print(at time.Duration, line string) { fmt.Printf("%14s  %s\n", at, line) }

// story makes a failing seed's plan short, and tells what happens in it.
func story(o *options, r *sim.Result) {
	if o.quiet {
		return
	}
	fmt.Printf("seed %d: %s\n", r.Plan.Seed, r.Violation)
	p := sim.Shrink(r.Plan, r.Violation.Invariant, o.shrink, func(p *sim.Plan) *sim.Violation { return sim.Run(p, nil).Violation })
	fmt.Printf("the same with %d acts of %d and %d faults of %d:\n", len(p.Acts), len(r.Plan.Acts), len(p.Faults), len(r.Plan.Faults))
	sim.Run(p, func(at time.Duration, line string) {
		for part := range strings.SplitSeq(line, "\n") {
			print(at, part)
		}
	})
	fmt.Printf("to see it again: make sim SEED=%d\n", r.Plan.Seed)
}

// total is what all runs had in them.
type total struct {
	mu      sync.Mutex
	next    int
	done    int
	virtual time.Duration
	counts  sim.Counts
	failed  []*sim.Result
}

func many(o *options) int {
	start, t := time.Now(), &total{}
	over := func() bool {
		return t.next >= o.seeds || o.minutes > 0 && time.Since(start).Minutes() >= o.minutes || len(t.failed) > 0 && !o.all
	}
	var running sync.WaitGroup
	for range o.jobs {
		running.Go(func() {
			for {
				t.mu.Lock()
				if over() {
					t.mu.Unlock()
					return
				}
				seed := uint64(o.base + t.next)
				t.next++
				t.mu.Unlock()
				t.take(sim.Run(sim.NewPlan(seed), nil))
			}
		})
	}
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	look := time.NewTicker(time.Second)
	for more := true; more; {
		select {
		case <-ended:
			more = false
		case <-look.C:
		}
		if !o.quiet {
			t.progress(o, time.Since(start))
		}
	}
	if !o.quiet {
		fmt.Fprintln(os.Stderr)
	}
	t.report()
	if len(t.failed) > 0 {
		story(o, t.failed[0])
	}
	return min(len(t.failed), 1)
}

func (t *total) take(r *sim.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done++
	t.virtual += r.Virtual
	t.counts.Add(r.Counts)
	if r.Violation != nil {
		t.failed = append(t.failed, r)
		fmt.Printf("seed %d breaks a promise: %.300s\n", r.Plan.Seed, r.Violation)
	}
}

func (t *total) progress(o *options, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(os.Stderr, "\r%d of %d seeds, %s simulated, %.0f × real time, %.0f seeds a minute, %d broken ", t.done, o.seeds,
		t.virtual.Round(time.Minute), t.virtual.Seconds()/took.Seconds(), float64(t.done)/took.Minutes(), len(t.failed))
}

func (t *total) report() {
	c := t.counts
	fmt.Printf("%d seeds: %d puts, %d acknowledged, %d entries applied, %d records between regions, %d answers, %d connections, %d moves, "+
		"%d faults, %d forgets, %d trims, %d cursors moved by transfers, %d records ahead, %d answers taken over, %d purges, %d evictions, %d expiries of %d ids, "+
		"%d disks of one of several put back, %d incarnations\n",
		t.done, c.Puts, c.Acks, c.Commits, c.Records, c.Answers, c.Links, c.Moves, c.Faults, c.Forgets, c.Trims, c.Transfers, c.Eager, c.Taken, c.Purges, c.Evictions, c.Expiries, c.Expired,
		c.Images, c.Begun)
}
