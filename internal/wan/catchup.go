package wan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/client"
)

const (
	// fillers put at once, fillOps at a time, each in a session of its own that ends at fillSession.
	fillers     = 32
	fillOps     = 64
	fillSession = 6400
	// catchUpRate is what a region should catch up at, in ops a second.
	catchUpRate = 30_000
)

// catchUp cuts a region off, has it miss many ops, and measures how fast it gets them while others talk.
func (r *rig) catchUp(ctx context.Context, sc *Scenario) error {
	away := r.world.regions[len(r.world.regions)-1]
	for _, p := range r.world.pairs() {
		if p.From == away.name || p.To == away.name {
			r.world.ground.Ways().Shape(p, cut)
		}
	}
	begun := time.Now()
	if err := r.fill(ctx, sc); err != nil {
		return err
	}
	r.say("%s: %s has missed %d ops, put in %.0f s", sc.Name, away.name, r.Behind, time.Since(begun).Seconds())
	near := r.world.regions[:len(r.world.regions)-1]
	talking := &world{ground: r.world.ground, regions: near, key: r.world.key, normal: r.world.normal} // who is away has no part in what is live
	c, err := newCrowd(talking, crowdPlan{name: fmt.Sprintf("%s-%d", sc.Name, r.crowds+1), sessions: sc.Sessions, rate: sc.Rate, payload: r.Payload, seed: sc.Seed})
	if err != nil {
		return err
	}
	defer c.close()
	r.crowds++
	if err := c.connect(ctx); err != nil {
		return err
	}
	m, err := r.traveller(ctx, sc)
	if err != nil {
		return err
	}
	defer m.close()
	return r.catching(ctx, sc, c, away, m)
}

// traveller is a device that has seen, in the first region, what the one that is away has missed.
func (r *rig) traveller(ctx context.Context, sc *Scenario) (*mover, error) {
	user := "traveller"
	m, err := newMover(r.world, fmt.Sprintf("%s/%s-%d", user, sc.Name, r.crowds), user)
	if err != nil {
		return nil, err
	}
	home := r.world.regions[0]
	o, err := newOther(ctx, home.nodes[0], "other", r.world.token(user))
	if err != nil {
		return nil, err
	}
	defer o.ws.CloseNow()
	last, err := o.put(ctx, m.session, "t", texts(r.Payload, rand.New(rand.NewPCG(r.Seed, 5)))[:resumeUnread])
	return m, errors.Join(err, m.reach(ctx, home), m.hello(ctx), m.until(ctx, last))
}

// arrives has the traveller go to a region, and returns how long it takes until he has all of his session there.
func (r *rig) arrives(ctx context.Context, m *mover, at *region) (took time.Duration, err error) {
	begun := time.Now()
	if err := errors.Join(m.reach(ctx, at), m.hello(ctx)); err != nil {
		return 0, err
	}
	err = m.read(ctx, func(st *client.State) bool { return st.Region == at.name && !st.Behind })
	return time.Since(begun), err
}

// quiet is how long live traffic is measured before the region is back.
func (sc *Scenario) quiet() time.Duration { return min(sc.Length/4, 10*time.Second) }

func (r *rig) catching(ctx context.Context, sc *Scenario, c *crowd, away *region, m *mover) error {
	behind := away.nodes[0]
	loading, stop := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() { defer close(loaded); c.load(loading, time.Hour) }()
	defer func() { stop(); <-loaded }()
	begun := time.Since(c.start)
	if !pause(ctx, sc.quiet()) {
		return ctx.Err()
	}
	first, err := behind.status(ctx)
	if err != nil {
		return err
	}
	there, err := r.world.regions[0].nodes[0].status(ctx)
	if err != nil {
		return err
	}
	missed := there.beyond(&first)
	healed := time.Since(c.start)
	r.world.heal()
	var travelled time.Duration
	var lost error // of the traveller
	travelling := make(chan struct{})
	onTheWay, giveUp := context.WithTimeout(ctx, sc.Length+patience)
	go func() { defer close(travelling); travelled, lost = r.arrives(onTheWay, m, away) }()
	defer func() { giveUp(); <-travelling }()
	var moved time.Duration // when the first of it came
	last := time.Now()
	err = r.world.await(ctx, sc.Length+patience, behind.region+" has caught up", func() error {
		s, err := behind.status(ctx)
		if err != nil {
			return err
		}
		left := there.beyond(&s)
		if moved == 0 && left < missed-missed/100 {
			moved = time.Since(c.start)
		}
		if time.Since(last) > progressEvery {
			last = time.Now()
			r.say("%s: %d of %d ops", sc.Name, missed-left, missed)
		}
		if left > 0 {
			return fmt.Errorf("it has %d of %d ops", missed-left, missed)
		}
		return nil
	})
	ended := time.Since(c.start)
	if err != nil {
		return err
	}
	stop()
	<-loaded
	<-travelling
	if err := errors.Join(lost, c.settle(ctx)); err != nil {
		return err
	}
	if err := r.world.await(ctx, patience, "all nodes have the same", func() error { return r.world.level(ctx) }); err != nil {
		return err
	}
	r.report.caughtUp(sc, c.deliveries(0), missed, [4]time.Duration{begun, healed, moved, ended})
	r.report.add(sc, "a user who comes at the end of the cut", "has all that he had seen after %.1f s", travelled.Seconds())
	return nil
}

// caughtUp adds how fast a region was, from the end of the cut on and from when the first hundredth had come, and what it has cost those who
// talked meanwhile. What was not measured meets no goal.
func (r *Report) caughtUp(sc *Scenario, live []sample, ops uint64, at [4]time.Duration) {
	begun, healed, moved, ended := at[0], at[1], at[2], at[3]
	rate, words := 0.0, "too few to measure"
	if ended-moved >= look {
		rate = 0.99 * float64(ops) / (ended - moved).Seconds()
		words = fmt.Sprintf("%.0f ops/s", rate)
	}
	r.goal(sc, fmt.Sprintf("%d ops behind", ops), words, fmt.Sprintf("≥ %d ops/s", catchUpRate), rate >= catchUpRate)
	r.add(sc, "from the end of the cut", "%.1f s until ops came, %.1f s until all were there", (moved - healed).Seconds(), (ended - healed).Seconds())
	before, during := spreadOf(within(live, begun, healed)), spreadOf(within(live, healed, ended))
	r.add(sc, "live p99 of others before", "%s", ms(before.p99))
	r.goal(sc, "live p99 of others meanwhile", ms(during.p99), "less than twice that", during.n > 0 && during.p99 < 2*before.p99)
	r.Lags = append(r.Lags, Lag{Scenario: sc, Samples: live})
}

// fill puts what the region misses, in the first one.
func (r *rig) fill(ctx context.Context, sc *Scenario) error {
	r.crowds++
	texts := texts(r.Payload, rand.New(rand.NewPCG(r.Seed, 4)))
	var left atomic.Int64
	left.Store(int64(r.Behind))
	g, ctx := errgroup.WithContext(ctx)
	for i := range fillers {
		g.Go(func() error {
			user := fmt.Sprintf("filler%d", i)
			o, err := newOther(ctx, r.world.regions[0].nodes[0], "filler", r.world.token(user))
			if err != nil {
				return err
			}
			defer o.ws.CloseNow()
			for n := left.Add(-fillOps); n > -fillOps; n = left.Add(-fillOps) {
				ops := int(min(fillOps, n+fillOps))
				at := (o.n / fillOps) % (len(texts) - fillOps)
				session := fmt.Sprintf("%s/%s-%d-%d", user, sc.Name, r.crowds, o.n/fillSession)
				if _, err := o.putAgain(ctx, session, "f", texts[at:at+ops]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// putAgain is put that waits while the region is busy.
func (o *other) putAgain(ctx context.Context, session, name string, texts []string) (last string, err error) {
	for {
		n := o.n
		var busy *refusal
		if last, err = o.put(ctx, session, name, texts); !errors.As(err, &busy) || busy.retry == 0 {
			return last, err
		}
		o.n = n
		if !pause(ctx, busy.retry) {
			return "", ctx.Err()
		}
	}
}

// pause waits; it is false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
