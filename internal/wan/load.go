package wan

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// crowdFor makes the clients of a scenario, in sessions of their own, and connects them.
func (r *rig) crowdFor(ctx context.Context, sc *Scenario) (*crowd, error) {
	r.crowds++
	c, err := newCrowd(r.world, crowdPlan{name: fmt.Sprintf("%s-%d", sc.Name, r.crowds), sessions: sc.Sessions, rate: sc.Rate, asks: sc.Asks,
		payload: r.Payload, watched: sc.Watched, seed: sc.Seed})
	if err != nil {
		return nil, err
	}
	if err := c.connect(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// load has clients talk while things happen, and looks for all of it in the end.
func (r *rig) load(ctx context.Context, sc *Scenario) error {
	c, err := r.crowdFor(ctx, sc)
	if err != nil {
		return err
	}
	defer c.close()
	for _, p := range r.world.pairs() {
		r.world.ground.Ways().Shape(p, sc.Base.over(r.world.normal))
	}
	before, since, used := r.world.ground.Ways().Counts(), time.Since(c.start), r.cpu()
	acting, stop := context.WithCancel(ctx)
	defer stop()
	acted := make(chan error, 1)
	go func() { acted <- r.world.act(acting, sc, c, func(what string) { r.say("%s: %s", sc.Name, what) }) }()
	progress := r.progress(acting, sc, c)
	c.load(ctx, sc.Length)
	if ctx.Err() != nil {
		stop()
	}
	err = <-acted // an act may be longer than the load
	stop()
	<-progress
	r.report.cpu(sc, used, r.cpu())
	r.world.heal()
	ended := time.Now()
	if err != nil { // not all regions are up
		return err
	}
	if err = c.settle(ctx); ctx.Err() != nil {
		return ctx.Err()
	}
	took, wire := time.Since(ended), r.wire(before)
	found, e := c.audit(ctx)
	if err = errors.Join(err, e); err != nil {
		found.Notes = append([]string{err.Error()}, found.Notes...)
	}
	r.report.load(sc, c, since, wire, took, found, r.Memory)
	for _, n := range found.Notes {
		r.say("%s: %s", sc.Name, n)
	}
	if errors.Is(err, errDigest) {
		return err
	}
	return nil
}

// usage is how much of processors was used, by a moment.
type usage struct {
	at          time.Time
	nodes, self time.Duration // self: the rig, with all clients
}

// cpuGround is one that knows.
type cpuGround interface{ cpu() usage }

// cpu returns what was used; the zero value where that is not known.
func (r *rig) cpu() usage {
	if g, ok := r.ground.(cpuGround); ok {
		return g.cpu()
	}
	return usage{}
}

// wire is what went over the wire since.
func (r *rig) wire(before map[Pair]Count) map[Pair]Count {
	now := r.world.ground.Ways().Counts()
	for p, c := range now {
		now[p] = c.Sub(before[p])
	}
	return now
}

// progressEvery is the time between lines of progress.
const progressEvery = 5 * time.Second

// progress says how it goes until ctx ends; what it returns is closed then.
func (r *rig) progress(ctx context.Context, sc *Scenario, c *crowd) chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for begun := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			sent, acked, reached, _ := c.sums()
			at := time.Since(c.start)
			recent := spreadOf(c.deliveriesOf(0, at-progressEvery, at))
			r.say("%s: %.0f of %.0f s: %d put, %d acknowledged, %d shown in all regions; of the last %.0f s p50 %s p99 %s", sc.Name,
				time.Since(begun).Seconds(), sc.Length.Seconds(), sent, acked, reached, progressEvery.Seconds(), ms(recent.p50), ms(recent.p99))
		}
	}()
	return done
}

// idle counts what regions say to each other when nothing happens.
func (r *rig) idle(ctx context.Context, sc *Scenario) error {
	pause(ctx, sc.Length/4) // what a start leaves behind
	before, begun := r.world.ground.Ways().Counts(), time.Now()
	pause(ctx, sc.Length)
	r.report.idle(sc, r.wire(before), time.Since(begun))
	return nil
}
