package dispatch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire/workpb"
)

// entry names an entry of a jobs stream.
type entry struct{ stream, id string }

// jobs is the Redis side of the outbox.
type jobs struct {
	redis *redis.Client
	keys  stream.Keys
}

// add adds jobs, in one round trip, and returns where each went; "" for one that failed, of which err is the first.
func (j jobs) add(ctx context.Context, msgs []*workpb.Job) (at []entry, err error) {
	pipe := j.redis.Pipeline()
	cmds := make([]*redis.StringCmd, len(msgs))
	at = make([]entry, len(msgs))
	for i, m := range msgs {
		at[i].stream = j.keys.Jobs(m.Model)
		args, err := stream.Entry(at[i].stream, m)
		if err != nil {
			return at, err
		}
		cmds[i] = pipe.XAdd(ctx, args)
	}
	_, err = pipe.Exec(ctx)
	for i, c := range cmds {
		at[i].id = c.Val()
	}
	return at, wrap("add jobs", err)
}

// drop removes entries that nobody needs to take any more.
func (j jobs) drop(ctx context.Context, old []entry) error {
	pipe := j.redis.Pipeline()
	for _, e := range old {
		pipe.XAck(ctx, e.stream, stream.Group, e.id)
		pipe.XDel(ctx, e.stream, e.id)
	}
	_, err := pipe.Exec(ctx)
	return wrap("drop jobs", err)
}

// find says what became of entries, in one round trip.
func (j jobs) find(ctx context.Context, of []entry) ([]found, error) {
	pipe := j.redis.Pipeline()
	groups := map[string]*redis.XInfoGroupsCmd{}
	pending, exists := make([]*redis.XPendingExtCmd, len(of)), make([]*redis.XMessageSliceCmd, len(of))
	for _, e := range of { // first how far the group is: what it takes later is pending or begun below
		if groups[e.stream] == nil {
			groups[e.stream] = pipe.XInfoGroups(ctx, e.stream)
		}
	}
	for i, e := range of {
		pending[i] = pipe.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: e.stream, Group: stream.Group, Start: e.id, End: e.id, Count: 1})
		exists[i] = pipe.XRangeN(ctx, e.stream, e.id, e.id, 1)
	}
	if _, err := pipe.Exec(ctx); err != nil && !stream.NoGroup(err) && !stream.NoKey(err) {
		return nil, wrap("find jobs", err)
	}
	all := make([]found, len(of))
	for i, e := range of {
		if err := exists[i].Err(); err != nil {
			return nil, wrap("find jobs", err)
		}
		all[i] = found{exists: len(exists[i].Val()) > 0, delivered: delivered(groups[e.stream].Val(), e.id)}
		if p := pending[i].Val(); len(p) > 0 {
			all[i].pending, all[i].idle = true, p[0].Idle
		}
	}
	return all, nil
}

func delivered(groups []redis.XInfoGroup, id string) bool {
	for _, g := range groups {
		if g.Name != stream.Group {
			continue
		}
		last, err := stream.ParseID(g.LastDeliveredID)
		at, err2 := stream.ParseID(id)
		return err == nil && err2 == nil && !last.Less(at)
	}
	return false
}

// Of workers that died between taking a job and beginning it, entries and names are left behind when the leader
// changed too. They are swept.
const (
	SweepEvery    = time.Minute // how often Run sweeps
	sweepEntries  = 10 * time.Minute
	sweepNames    = time.Hour
	maxSweepBatch = 100 // entries and names of a stream in one sweep; the rest goes with the next
)

// sweep clears one model's stream of entries and names that nobody has touched for so long.
func (j jobs) sweep(ctx context.Context, model string, entries, names time.Duration) error {
	key := j.keys.Jobs(model)
	old, err := j.redis.XPendingExt(ctx, &redis.XPendingExtArgs{
		Stream: key, Group: stream.Group, Idle: entries, Start: "-", End: "+", Count: maxSweepBatch,
	}).Result()
	if stream.NoGroup(err) || stream.NoKey(err) {
		return nil
	}
	if err != nil {
		return wrap("sweep jobs", err)
	}
	var drop []entry
	for _, p := range old {
		drop = append(drop, entry{key, p.ID})
	}
	if len(drop) > 0 {
		err = j.drop(ctx, drop)
	}
	return errors.Join(err, j.sweepConsumers(ctx, key, names))
}

func (j jobs) sweepConsumers(ctx context.Context, key string, names time.Duration) error {
	all, err := j.redis.XInfoConsumers(ctx, key, stream.Group).Result()
	if err != nil {
		return wrap("sweep workers", err)
	}
	slices.SortFunc(all, func(a, b redis.XInfoConsumer) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range all[:min(len(all), maxSweepBatch)] {
		if c.Pending == 0 && c.Idle >= names {
			err = errors.Join(err, j.redis.XGroupDelConsumer(ctx, key, stream.Group, c.Name).Err())
		}
	}
	return wrap("sweep workers", err)
}
