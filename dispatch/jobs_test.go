package dispatch

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/dispatch/internal/redistest"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire/workpb"
)

func newJobs(t *testing.T, s *redistest.Server) jobs {
	t.Helper()
	c, err := stream.Open(s.URL(), 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return jobs{redis: c, keys: stream.KeysOf("here")}
}

func (j jobs) take(t *testing.T, key, name string) {
	t.Helper()
	args := &redis.XReadGroupArgs{Group: stream.Group, Consumer: name, Streams: []string{key, ">"}, Count: 1, Block: time.Second}
	if err := j.redis.XReadGroup(context.Background(), args).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestJobsAreFound(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		ctx, j := context.Background(), newJobs(t, s)
		msg := &workpb.Job{Run: "run-1", Model: "m"}
		at, err := j.add(ctx, []*workpb.Job{msg, msg, msg, msg})
		if err != nil {
			t.Fatal(err)
		}
		look := func(want ...found) {
			t.Helper()
			got, err := j.find(ctx, append(at, entry{j.keys.Jobs("none"), "1-0"}))
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range append(want, found{}) {
				got[i].idle = 0
				if got[i] != w {
					t.Errorf("job %d: %+v, want %+v", i, got[i], w)
				}
			}
		}
		waiting := found{exists: true}
		look(waiting, waiting, waiting, waiting) // before there is a group
		j.redis.XGroupCreate(ctx, at[0].stream, stream.Group, "0")
		look(waiting, waiting, waiting, waiting)
		for _, name := range []string{"a", "b", "c"} {
			j.take(t, at[0].stream, name)
		}
		taken := found{exists: true, delivered: true, pending: true}
		look(taken, taken, taken, waiting)
		j.redis.XGroupDelConsumer(ctx, at[0].stream, stream.Group, "a")
		if err := j.drop(ctx, at[1:2]); err != nil {
			t.Fatal(err)
		}
		look(found{exists: true, delivered: true}, found{delivered: true}, taken, waiting)
	})
}

func TestSweepClearsWhatTheDeadLeft(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		ctx, j := context.Background(), newJobs(t, s)
		if err := j.sweep(ctx, "none", 0, 0); err != nil {
			t.Errorf("no stream: %v", err)
		}
		msg := &workpb.Job{Run: "run-1", Model: "m"}
		at, err := j.add(ctx, []*workpb.Job{msg, msg})
		if err != nil {
			t.Fatal(err)
		}
		j.redis.XGroupCreate(ctx, at[0].stream, stream.Group, "0")
		j.take(t, at[0].stream, "dead")
		left := func() (entries, names int64) {
			entries, _ = j.redis.XLen(ctx, at[0].stream).Result()
			all, _ := j.redis.XInfoConsumers(ctx, at[0].stream, stream.Group).Result()
			return entries, int64(len(all))
		}
		if err := j.sweep(ctx, "m", time.Hour, time.Hour); err != nil {
			t.Fatal(err)
		}
		if entries, names := left(); entries != 2 || names != 1 {
			t.Errorf("too early: %d entries and %d names are left", entries, names)
		}
		if err := j.sweep(ctx, "m", 0, -time.Hour); err != nil {
			t.Fatal(err)
		}
		if entries, names := left(); entries != 1 || names != 0 {
			t.Errorf("%d entries and %d names are left", entries, names)
		}
	})
}

func TestWorkforce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		ctx, j := context.Background(), newJobs(t, s)
		if w, err := readWorkforce(ctx, j.redis, j.keys); err != nil || w.serves("") != noWorkers {
			t.Errorf("nobody: %+v, %v", w, err)
		}
		for name, models := range map[string]string{"a": "echo\ngpt", "b": "gpt"} {
			j.redis.Set(ctx, j.keys.Worker(name), models, time.Minute)
			j.redis.SAdd(ctx, j.keys.Workers(), name, "dead-"+name)
		}
		w, err := readWorkforce(ctx, j.redis, j.keys)
		if err != nil || w.alive != 2 || w.serves("") != served || w.serves("gpt") != served || w.serves("x") != unserved {
			t.Errorf("%+v, %v", w, err)
		}
		if n, _ := j.redis.SCard(ctx, j.keys.Workers()).Result(); n != 2 {
			t.Errorf("%d names on the list", n)
		}
		s.Kill()
		if w, err := readWorkforce(ctx, j.redis, j.keys); err == nil || w.alive != 0 {
			t.Errorf("no redis: %+v, %v", w, err)
		}
	})
}

func TestEmbedded(t *testing.T) {
	e, err := StartEmbedded(redistest.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c, err := stream.Open(e.URL(), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	c.Set(ctx, "k", "v", time.Millisecond)
	for end := time.Now().Add(10 * time.Second); c.Exists(ctx, "k").Val() != 0; {
		if time.Now().After(end) {
			t.Fatal("the key does not expire")
		}
	}
	if _, err := StartEmbedded(e.Addr()); err == nil {
		t.Error("two on one address")
	}
	e.Close()
	again, err := StartEmbedded(e.Addr())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
