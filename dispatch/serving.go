package dispatch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/dispatch/internal/stream"
)

// maxWorkers bounds the workers of a region that are known at a time; more are not looked at.
const maxWorkers = 1000

// workforce is which models the live workers serve.
type workforce struct {
	alive  int
	models map[string]bool
}

// serves says who could answer for a model. Any worker answers for the default model.
func (w workforce) serves(model string) service {
	switch {
	case w.alive == 0:
		return noWorkers
	case model == "" || w.models[model]:
		return served
	}
	return unserved
}

func (w workforce) equal(o workforce) bool {
	return (w.alive == 0) == (o.alive == 0) && maps.Equal(w.models, o.models)
}

// readWorkforce asks Redis who is alive. It takes the names of the dead off the list; one that only seemed dead puts
// itself on it again within seconds.
func readWorkforce(ctx context.Context, c *redis.Client, keys stream.Keys) (workforce, error) {
	w := workforce{models: map[string]bool{}}
	names, err := c.SRandMemberN(ctx, keys.Workers(), maxWorkers).Result()
	if err != nil || len(names) == 0 {
		return w, wrap("list workers", err)
	}
	slices.Sort(names) // Redis has no order of them
	at := make([]string, len(names))
	for i, n := range names {
		at[i] = keys.Worker(n)
	}
	values, err := c.MGet(ctx, at...).Result()
	if err != nil {
		return w, wrap("read workers", err)
	}
	var dead []any
	for i, v := range values {
		models, ok := v.(string)
		if !ok {
			dead = append(dead, names[i])
			continue
		}
		w.alive++
		for m := range strings.SplitSeq(models, "\n") {
			w.models[m] = true
		}
	}
	if len(dead) > 0 {
		err = c.SRem(ctx, keys.Workers(), dead...).Err()
	}
	return w, wrap("forget dead workers", err)
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}

// roster keeps the outbox informed of the workers, and the streams clear of what dead ones left. It has one owner.
type roster struct {
	redis  *redis.Client
	keys   stream.Keys
	jobs   jobs
	inbox  *inbox
	health *stream.Health
	met    *metrics
	last   workforce // as last polled
}

// run polls until ctx ends.
func (r *roster) run(ctx context.Context, every time.Duration) error {
	poll, sweep := time.NewTicker(every), time.NewTicker(SweepEvery)
	defer poll.Stop()
	defer sweep.Stop()
	r.poll(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			r.poll(ctx)
		case <-sweep.C:
			r.sweep(ctx)
		}
	}
}

// poll tells the outbox who is there. Without Redis nobody is.
func (r *roster) poll(ctx context.Context) {
	w, err := readWorkforce(ctx, r.redis, r.keys)
	if err != nil {
		r.failed(ctx, "workers", err)
		w = workforce{}
	} else {
		r.health.OK()
	}
	r.last = w
	r.inbox.workers(w)
}

// sweep clears the streams of the models that are served.
func (r *roster) sweep(ctx context.Context) {
	models := slices.Sorted(maps.Keys(r.last.models))
	if r.last.alive > 0 {
		models = append(models, "")
	}
	for _, m := range models {
		if err := r.jobs.sweep(ctx, m, sweepEntries, sweepNames); err != nil {
			r.failed(ctx, "sweep", err)
		}
	}
}

func (r *roster) failed(ctx context.Context, op string, err error) {
	if ctx.Err() == nil {
		r.met.failures.WithLabelValues(op).Inc()
		r.health.Failed(ctx, op, err)
	}
}
