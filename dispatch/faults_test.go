package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/dispatch/worker"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/workpb"
)

func TestWorkerDiesInMidAnswer(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		g := newGate(3)
		stop := r.work(g)
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", run, half)
		stop()
		r.work(fast)
		r.advance(crdt.LeaseTTL / 2)
		if s := r.slot("u/a", run); r.region.attempts("u/a", run) != 1 || s.State != crdt.RunRunning {
			t.Errorf("before the lease ran out: %+v", s)
		}
		r.advance(crdt.LeaseTTL)
		if s := r.awaitAnswer("u/a", run, answer); r.region.attempts("u/a", run) != 2 {
			t.Errorf("ended as attempt %v", s.Attempt)
		}
	})
}

func TestRedisDiesInMidAnswer(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		g := newGate(3)
		r.work(g)
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", run, half)
		r.redis.Kill()
		close(g.open)
		waiting := r.ask("u/b", "m1", prompt, "")[0]
		r.redis.Start(t)
		if s := r.awaitAnswer("u/a", run, answer); r.region.attempts("u/a", run) != 1 {
			t.Errorf("ended as attempt %v", s.Attempt)
		}
		r.awaitAnswer("u/b", waiting, answer)
	})
}

// TestRedisLosesReports: the worker has reported everything, nobody has read it, and it is gone.
func TestRedisLosesReports(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		stop := r.lead()
		g := newGate(3)
		r.work(g)
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", run, half)
		stop()
		close(g.open)
		r.awaitDone()
		r.redis.Kill()
		r.redis.Start(t)
		r.lead()
		if s := r.awaitAnswer("u/a", run, answer); r.region.attempts("u/a", run) != 1 {
			t.Errorf("ended as attempt %v", s.Attempt)
		}
	})
}

// awaitDone waits until a worker has reported that its answer is complete.
func (r *rig) awaitDone() {
	r.t.Helper()
	pos, key := "0-0", stream.KeysOf(regionName).Results(0)
	for {
		got, err := stream.Read(context.Background(), r.redis.Client(), key, pos, 1, awaitLimit)
		if err != nil || len(got) != 1 {
			r.t.Fatalf("no done: %v, %v", got, err)
		}
		rep := &workpb.Report{}
		if err := stream.Decode(got[0], rep); err != nil {
			r.t.Fatal(err)
		}
		if pos = got[0].ID; rep.GetDone() != nil {
			return
		}
	}
}

func TestRedisIsDownAtStart(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.redis.Kill()
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.lead()
		w, _ := r.workLater(fast)
		stopped := r.ask("u/b", "m1", prompt, "echo")[0]
		r.put("u/b", crdt.Op{Kind: crdt.KindStop, OID: "s1"})
		if s := r.awaitClosed("u/b", stopped); s.Fin != "stopped" {
			t.Errorf("closed as %+v", s)
		}
		select {
		case <-w.Ready():
			t.Error("ready without a Redis")
		default:
		}
		r.redis.Start(t)
		r.awaitAnswer("u/a", run, answer)
	})
}

func TestRedisIsWiped(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		g := newGate(3)
		r.work(g, func(c *worker.Config) { c.Concurrency = 1 })
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", run, half)
		waiting := r.ask("u/b", "m1", prompt, "echo")[0]
		r.awaitEntries(stream.KeysOf(regionName).Jobs("echo"), 1)
		if err := r.redis.Client().FlushAll(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
		close(g.open)
		if s := r.awaitAnswer("u/a", run, answer); r.region.attempts("u/a", run) != 1 {
			t.Errorf("ended as attempt %v", s.Attempt)
		}
		r.awaitAnswer("u/b", waiting, answer)
	})
}

func (r *rig) awaitEntries(key string, n int64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), awaitLimit)
	defer cancel()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		got, err := r.redis.Client().XLen(ctx, key).Result()
		if err == nil && got == n {
			return
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("%s has %d entries, not %d: %v", key, got, n, err)
		case <-poll.C:
		}
	}
}

func TestLeaderRestartsInMidAnswer(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		stop := r.lead()
		g := newGate(3)
		r.work(g)
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", run, half)
		stop()
		close(g.open)
		next := r.ask("u/a", "m2", prompt, "echo")[0]
		r.lead()
		if s := r.awaitAnswer("u/a", run, answer); r.region.attempts("u/a", run) != 1 {
			t.Errorf("ended as attempt %v", s.Attempt)
		}
		r.awaitAnswer("u/a", next, answer)
	})
}

func TestRegionIsUnavailableNowAndThen(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.trouble = func(n int) (before, after error) {
			switch n % 4 {
			case 1:
				return fmt.Errorf("no leader: %w", wire.ErrUnavailable), nil
			case 2:
				return nil, fmt.Errorf("leadership lost: %w", wire.ErrUnavailable) // committed all the same
			}
			return nil, nil
		}
		r.lead()
		r.work(llm.Echo{TokenDelay: time.Millisecond})
		for i := range 5 {
			session := fmt.Sprintf("u/s%d", i)
			r.awaitAnswer(session, r.ask(session, "m1", prompt, "echo")[0], answer)
		}
	})
}

func TestRegionRefusesForGood(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		broken := errors.New("disk stalled")
		r.trouble = func(int) (before, after error) { return broken, nil }
		r.put("u/a", crdt.Op{Kind: crdt.KindMsg, OID: "m1", Models: []string{""}}, crdt.Op{Kind: crdt.KindStop, OID: "s1"})
		d, err := dispatch.New(r.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(context.Background()); !errors.Is(err, broken) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestResultsComeTwice(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		g := newGate(3)
		r.work(g)
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", run, half)
		r.repeatResults()
		close(g.open)
		r.awaitAnswer("u/a", run, answer)
		r.repeatResults()
		other := r.ask("u/b", "m1", prompt, "echo")[0]
		r.awaitAnswer("u/b", other, answer)
		if s := r.awaitAnswer("u/a", run, answer); r.region.attempts("u/a", run) != 1 {
			t.Errorf("ended as attempt %v", s.Attempt)
		}
	})
}

func (r *rig) repeatResults() {
	r.t.Helper()
	ctx, key := context.Background(), stream.KeysOf(regionName).Results(0)
	all, err := r.redis.Client().XRange(ctx, key, "-", "+").Result()
	if err != nil || len(all) == 0 {
		r.t.Fatalf("results: %d, %v", len(all), err)
	}
	for _, e := range all {
		r.addResult(e.Values)
	}
}

func (r *rig) addResult(values map[string]any) string {
	r.t.Helper()
	id, err := r.redis.Client().XAdd(context.Background(), &redis.XAddArgs{Stream: stream.KeysOf(regionName).Results(0), Values: values}).Result()
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func TestMalformedResultsArePassedOver(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		reg := prometheus.NewRegistry()
		cfg := r.config()
		cfg.Registerer = reg
		r.leadWith(cfg)
		r.work(fast)
		last := ""
		for _, m := range []string{"", "\xff\xfe", "\x0a\x01x", strings.Repeat("x", 1000)} {
			r.addResult(map[string]any{stream.Field: m})
			last = r.addResult(map[string]any{"other": m})
		}
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.awaitAnswer("u/a", run, answer)
		if n := counted(t, reg, "roam_dispatch_malformed_total"); n != 8 {
			t.Errorf("%v counted, not 8", n)
		}
		at, err := stream.ParseID(r.committed())
		if id, _ := stream.ParseID(last); err != nil || at.Less(id) {
			t.Errorf("position %s is not past %s", r.committed(), last)
		}
	})
}

func counted(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range all {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestResultsStreamStartsAgain(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.rewinds, r.position = true, "99999999999999-7" // by a clock that is ahead of the one that Redis has now
		r.lead()
		r.work(fast)
		r.awaitAnswer("u/a", r.ask("u/a", "m1", prompt, "echo")[0], answer)
		if r.committed() >= "99999999999999-7" {
			t.Errorf("position %s", r.committed())
		}
	})
}

func TestResultsAreTrimmedBelowThePosition(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		stop := r.lead()
		r.work(fast)
		for i := range 300 {
			session := fmt.Sprintf("u/s%d", i)
			r.ask(session, "m", "x", "echo")
		}
		for i := range 300 {
			r.awaitClosed(fmt.Sprintf("u/s%d", i), crdt.RunID("m", "echo", "0"))
		}
		stop()
		n, err := r.redis.Client().XLen(context.Background(), stream.KeysOf(regionName).Results(0)).Result()
		if err != nil || n > 700 {
			t.Errorf("%d results are left of 900 or more: %v", n, err)
		}
	})
}

func TestJobThatIsTakenAndNotBegun(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		cfg := r.config()
		cfg.StaleAfter = 50 * time.Millisecond
		r.leadWith(cfg)
		ctx, keys, c := context.Background(), stream.KeysOf(regionName), r.redis.Client()
		if err := c.XGroupCreateMkStream(ctx, keys.Jobs("echo"), stream.Group, "0").Err(); err != nil {
			t.Fatal(err)
		}
		r.pretend("dead", "echo")
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		args := &redis.XReadGroupArgs{Group: stream.Group, Consumer: "dead", Streams: []string{keys.Jobs("echo"), ">"}, Block: 5 * time.Second}
		if got, err := c.XReadGroup(ctx, args).Result(); err != nil || len(got) != 1 {
			t.Fatalf("taken: %v, %v", got, err)
		}
		r.work(fast)
		r.awaitAnswer("u/a", run, answer)
	})
}

// TestExpiredAnswerIsAskedForOnce: nobody takes the job, and nothing is gained by adding it again.
func TestExpiredAnswerIsAskedForOnce(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		lead := r.lead()
		g := newGate(3)
		stop := r.work(g)
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", run, half)
		stop()
		r.pretend("busy", "echo")
		r.advance(2 * crdt.LeaseTTL)
		key := stream.KeysOf(regionName).Jobs("echo")
		r.awaitEntries(key, 1)
		for i := range 5 {
			r.ask("u/a", fmt.Sprint("again", i), prompt, "echo") // the session is looked at
			r.ask("u/b", fmt.Sprint("other", i), prompt, "echo")
			r.awaitEntries(key, 2)
		}
		lead()
		if n, err := r.redis.Client().XLen(context.Background(), key).Result(); n != 2 || err != nil {
			t.Errorf("%d jobs: %v", n, err)
		}
	})
}

// pretend announces a worker that takes no jobs.
func (r *rig) pretend(name, models string) {
	r.t.Helper()
	ctx, keys, c := context.Background(), stream.KeysOf(regionName), r.redis.Client()
	if err := errors.Join(c.Set(ctx, keys.Worker(name), models, time.Minute).Err(), c.SAdd(ctx, keys.Workers(), name).Err()); err != nil {
		r.t.Fatal(err)
	}
}
