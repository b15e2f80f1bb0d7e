package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/dispatch/worker"
)

const prompt = "the quick  brown fox — jumps über the\n lazy dog"

var answer = strings.Join(strings.Fields(prompt), " ")

// half is what the gate lets through before its third word.
const half = "the quick brown"

func TestQuestionIsAnswered(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		r.work(llm.Echo{TokenDelay: time.Millisecond})
		named := r.ask("u/a", "m1", prompt, "echo")[0]
		s := r.awaitAnswer("u/a", named, answer)
		if s.Model != "echo" || r.region.attempts("u/a", named) != 1 || s.Attempt.Region != regionName || string(s.Usage) == "" {
			t.Errorf("closed as %+v", s)
		}
		byDefault := r.ask("u/b", "m1", prompt, "")[0]
		if s := r.awaitAnswer("u/b", byDefault, answer); s.Model != "echo" {
			t.Errorf("the default model was %q", s.Model)
		}
		empty := r.ask("u/c", "m1", " \n", "")[0]
		r.awaitAnswer("u/c", empty, "")
	})
}

func TestTwoWorkersShareTheWork(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		one := func(c *worker.Config) { c.Concurrency = 1 }
		first, second := newGate(1), newGate(1)
		r.work(first, one)
		r.work(second, one)
		a, b := r.ask("u/a", "m1", prompt, "echo")[0], r.ask("u/b", "m1", prompt, "echo")[0]
		r.receive("the first worker's share", first.reached)
		r.receive("the second worker's share", second.reached)
		close(first.open)
		close(second.open)
		r.awaitAnswer("u/a", a, answer)
		r.awaitAnswer("u/b", b, answer)
	})
}

func TestManyAnswersAtOnce(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		r.work(fast)
		r.work(fast)
		runs := map[string]string{}
		for i := range 100 {
			session := fmt.Sprintf("u/s%d", i)
			runs[session] = r.ask(session, "m", fmt.Sprint(prompt, " ", i), "echo")[0]
		}
		for i := range 100 {
			session := fmt.Sprintf("u/s%d", i)
			r.awaitAnswer(session, runs[session], fmt.Sprint(answer, " ", i))
		}
	})
}

// awaitEntries polls until a stream has that many entries.
// repeatResults adds a copy of every entry of the results.
// counted sums a metric over its labels.
func TestStopWhileQueued(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.put("u/a", crdt.Op{Kind: crdt.KindStop, OID: "s1", Run: run})
		if s := r.awaitClosed("u/a", run); s.State != crdt.RunStopped || s.Fin != "stopped" {
			t.Errorf("closed as %+v", s)
		}
		r.work(fast)
		r.awaitAnswer("u/a", r.ask("u/a", "m2", prompt, "echo")[0], answer)
		if s := r.slot("u/a", run); s.State != crdt.RunStopped {
			t.Errorf("stopped, then %+v", s)
		}
	})
}

func TestStopWhileRunning(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		g := newGate(3)
		r.work(g, func(c *worker.Config) { c.Silence = 14 * time.Second }) // it does not ask, it is told
		run := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", run, half)
		r.put("u/a", crdt.Op{Kind: crdt.KindStop, OID: "s1"})
		s := r.awaitClosed("u/a", run)
		if s.State != crdt.RunStopped || s.Fin != "stopped" || r.text("u/a", run) != half || r.shown("u/a", run) != half {
			t.Errorf("closed as %+v with %q", s, r.text("u/a", run))
		}
		told := time.Now()
		if r.receive("the model's end", g.cancelled); time.Since(told) > 5*time.Second {
			t.Errorf("the worker was told after %v", time.Since(told))
		}
	})
}

func TestInterrupt(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		g := newGate(3)
		r.work(g)
		first := r.ask("u/a", "m1", prompt, "echo")[0]
		r.receive("the gate", g.reached)
		r.awaitHeld("u/a", first, half)
		second := r.askOp("u/a", crdt.Op{Kind: crdt.KindMsg, OID: "m2", Text: "no wait", Models: []string{"echo"}, Busy: crdt.BusyInterrupt})[0]
		r.awaitAnswer("u/a", second, "no wait")
		if s := r.awaitClosed("u/a", first); s.Fin != "interrupted" || r.text("u/a", first) != half {
			t.Errorf("the first closed as %+v", s)
		}
	})
}

func TestModelThatNobodyServes(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		cfg := r.config()
		cfg.UnservedAfter = 20 * time.Millisecond
		r.leadWith(cfg)
		alone := r.ask("u/a", "m1", prompt, "gpt")[0]
		r.advance(time.Minute)
		r.work(fast)
		s := r.awaitClosed("u/a", alone)
		if s.State != crdt.RunFailed || s.Fin != "error" || s.Err != `no worker serves model "gpt"` {
			t.Errorf("closed as %+v", s)
		}
		if n, err := r.redis.Client().Exists(context.Background(), stream.KeysOf(regionName).Jobs("gpt")).Result(); n != 0 || err != nil {
			t.Errorf("a stream was made for a model that nobody serves: %v", err)
		}
	})
}

func TestWithoutWorkersNothingFails(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		cfg := r.config()
		cfg.UnservedAfter = time.Millisecond
		r.leadWith(cfg)
		run := r.ask("u/a", "m1", prompt, "gpt")[0]
		r.advance(time.Hour)
		r.work(fast, func(c *worker.Config) { c.Models = []string{"gpt"} })
		if s := r.awaitAnswer("u/a", run, answer); s.Model != "gpt" {
			t.Errorf("closed as %+v", s)
		}
	})
}

func TestSecondQuestionWaits(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		g := newGate(3)
		r.work(g, func(c *worker.Config) { c.Models = []string{"echo", "two"} })
		first := r.ask("u/a", "m1", prompt, "echo", "two")
		second := r.ask("u/a", "m2", "and then", "echo")[0]
		elsewhere := r.ask("u/b", "m1", "short", "echo")[0]
		r.receive("one model", g.reached)
		r.receive("the other, at the same time", g.reached)
		r.awaitAnswer("u/b", elsewhere, "short")
		close(g.open)
		r.awaitAnswer("u/a", second, "and then")
		begin := r.at(func(op *crdt.Op) bool { return op.Kind == crdt.KindBegin && op.Run == second })
		for _, run := range first {
			r.awaitAnswer("u/a", run, answer)
			if done := r.at(func(op *crdt.Op) bool { return op.Kind == crdt.KindDone && op.Run == run }); done > begin {
				t.Errorf("the second question began at %d, before the first was answered at %d", begin, done)
			}
		}
	})
}

func TestContextGoesWithTheQuestion(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.lead()
		seen := &recorder{jobs: make(chan llm.Job, 8)}
		r.work(seen)
		r.put("u/a", crdt.Op{Kind: crdt.KindSet, OID: "k1", Key: "system", Value: []byte(`"be brief"`)})
		r.awaitClosed("u/a", r.ask("u/a", "m1", "first", "echo")[0])
		r.awaitClosed("u/a", r.ask("u/a", "gone", "never mind", "echo")[0])
		r.put("u/a", crdt.Op{Kind: crdt.KindDel, OID: "d", Of: "gone"})
		r.put("u/a", crdt.Op{Kind: crdt.KindMsg, OID: "m2", Text: "secnod"}, crdt.Op{Kind: crdt.KindEdit, OID: "e", Of: "m2", Text: "second"})
		r.awaitClosed("u/a", r.ask("u/a", "m3", "third", "echo")[0])
		<-seen.jobs
		<-seen.jobs
		j := <-seen.jobs
		var said []string
		for _, m := range j.Messages {
			said = append(said, m.Role+": "+m.Text)
		}
		want := "user: first|assistant: noted|user: second|user: third"
		if got := strings.Join(said, "|"); got != want || j.Prompt != "third" || string(j.Settings["system"]) != `"be brief"` {
			t.Errorf("job %+v\n got %s\nwant %s", j, got, want)
		}
	})
}

type recorder struct{ jobs chan llm.Job }

func (r *recorder) Answer(_ context.Context, job llm.Job, emit func(string) error) (llm.Result, error) {
	r.jobs <- job
	return llm.Result{}, emit("noted")
}

func TestConfigIsChecked(t *testing.T) {
	_, err := dispatch.New(dispatch.Config{Region: "Bei jing", Redis: "http://x", Tick: -1})
	for _, want := range []string{"region", "commits", "redis url", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	reg := prometheus.NewRegistry()
	cfg := dispatch.Config{Region: "a", Redis: "redis://127.0.0.1:1", Commits: newRegion(t), Registerer: reg}
	if _, err := dispatch.New(cfg); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}
