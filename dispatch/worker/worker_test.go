package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/roamsync/roam/dispatch/internal/redistest"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/wire/workpb"
)

func TestMain(m *testing.M) {
	logging.Disable() // every dial to a killed Redis would be a line
	goleak.VerifyTestMain(m)
}

const limit = 20 * time.Second

// bench is a worker whose leader is the test.
type bench struct {
	t     *testing.T
	redis *redistest.Server
	keys  stream.Keys
	pos   string // in the results
	end   time.Time
}

func each(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		t.Parallel()
		test(t, &bench{t: t, redis: s, keys: stream.KeysOf("r"), pos: "0-0", end: time.Now().Add(limit)})
	})
}

func (b *bench) start(model llm.LLM, change ...func(*Config)) (stop func()) {
	b.t.Helper()
	cfg := Config{
		Redis: b.redis.URL(), Region: "r", Models: []string{"echo"}, LLM: model, Grace: -1, Block: 20 * time.Millisecond,
		Resend: 30 * time.Millisecond, Silence: 150 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	w, err := New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			b.t.Errorf("run: %v", err)
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	b.t.Cleanup(stop)
	select {
	case <-w.Ready():
	case <-time.After(limit):
		b.t.Fatal("not ready")
	}
	return stop
}

func (b *bench) ask(model, prompt string) {
	b.t.Helper()
	args, err := stream.Entry(b.keys.Jobs(model), &workpb.Job{Session: "u/a", Run: "run-" + prompt, Model: model, Prompt: prompt})
	if err == nil {
		err = b.redis.Client().XAdd(context.Background(), args).Err()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// next returns the next report.
func (b *bench) next() *workpb.Report {
	b.t.Helper()
	got, err := stream.Read(context.Background(), b.redis.Client(), b.keys.Results(0), b.pos, 1, limit)
	if err != nil || len(got) != 1 || time.Now().After(b.end) {
		b.t.Fatalf("not the report that was waited for, within %v: %v, %v", limit, got, err)
	}
	b.pos = got[0].ID
	r := &workpb.Report{}
	if err := stream.Decode(got[0], r); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// until skips reports until one fits.
func (b *bench) until(fits func(*workpb.Report) bool) *workpb.Report {
	b.t.Helper()
	for {
		if r := b.next(); fits(r) {
			return r
		}
	}
}

func (b *bench) reply(to *workpb.Report, v workpb.Verdict, held uint64, change ...func(*workpb.Reply)) {
	b.t.Helper()
	r := &workpb.Reply{Run: to.Run, Nonce: to.Nonce, Verdict: v, Len: held, To: workpb.Kind_CHUNK}
	switch to.What.(type) {
	case *workpb.Report_Begin:
		r.To = workpb.Kind_BEGIN
	case *workpb.Report_Done:
		r.To = workpb.Kind_DONE
	}
	for _, c := range change {
		c(r)
	}
	args, err := stream.Entry(b.keys.Control(), r)
	if err == nil {
		err = b.redis.Client().XAdd(context.Background(), args).Err()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// begin puts a question and accepts the begin.
func (b *bench) begin(prompt string) *workpb.Report {
	b.t.Helper()
	b.ask("echo", prompt)
	r := b.until(isBegin)
	b.reply(r, workpb.Verdict_ACCEPTED, 0)
	return r
}

func isBegin(r *workpb.Report) bool { return r.GetBegin() != nil }
func isDone(r *workpb.Report) bool  { return r.GetDone() != nil }
func isText(r *workpb.Report) bool  { return r.GetChunk().GetText() != "" }
func isProbe(r *workpb.Report) bool { return r.GetChunk() != nil && r.GetChunk().Text == "" }

// emptied polls until nothing is left of the jobs.
func (b *bench) emptied() {
	b.t.Helper()
	b.poll("jobs are gone", func() bool {
		n, err := b.redis.Client().XLen(context.Background(), b.keys.Jobs("echo")).Result()
		return err == nil && n == 0
	})
}

func (b *bench) poll(what string, cond func() bool) {
	b.t.Helper()
	tick, end := time.NewTicker(2*time.Millisecond), time.NewTimer(limit)
	defer tick.Stop()
	defer end.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-end.C:
			b.t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// script says its pieces, then waits for the end of the test's patience or of its context.
type script struct {
	pieces []string
	hang   bool
	err    error
	calls  chan llm.Job
}

func say(pieces ...string) *script { return &script{pieces: pieces, calls: make(chan llm.Job, 100)} }

func (s *script) Answer(ctx context.Context, job llm.Job, emit func(string) error) (llm.Result, error) {
	s.calls <- job
	for _, p := range s.pieces {
		if err := emit(p); err != nil {
			return llm.Result{}, err
		}
	}
	if s.hang {
		<-ctx.Done()
		return llm.Result{}, ctx.Err()
	}
	return llm.Result{Usage: []byte(`{"n":1}`)}, s.err
}

func TestAnswerIsReported(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.start(say("h", "\xc3", "\xbc", " x"))
		first := b.begin("q")
		if first.GetBegin().Model != "echo" || first.Session != "u/a" || first.Run != "run-q" || first.Nonce == "" {
			t.Errorf("begin %v", first)
		}
		text := ""
		done := b.until(func(r *workpb.Report) bool {
			if c := r.GetChunk(); c != nil && c.Text != "" {
				if c.Off != uint64(len(text)) {
					t.Errorf("piece %v after %q", c, text)
				}
				text += c.Text
			}
			return isDone(r)
		})
		d := done.GetDone()
		if text != "hü x" || d.Len != 5 || d.Fin != "end" || d.Failed || string(d.Usage) != `{"n":1}` {
			t.Errorf("%q, done %v", text, d)
		}
		b.reply(done, workpb.Verdict_ACCEPTED, d.Len)
		b.emptied()
	})
}

func TestGapIsFilled(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.start(say("abc", "def"))
		b.begin("q")
		done := b.until(isDone)
		b.reply(done, workpb.Verdict_GAP, 2)
		if c := b.until(isText).GetChunk(); c.Off != 2 || c.Text != "cdef" {
			t.Errorf("sent again: %v", c)
		}
		if again := b.until(isDone); again.GetDone().Len != 6 {
			t.Errorf("done again: %v", again)
		} else {
			b.reply(again, workpb.Verdict_CLOSED, 6)
		}
	})
}

func TestSilentRegionIsAsked(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		s := say("abc")
		s.hang = true
		b.start(s)
		b.begin("q")
		b.until(isText)
		probe := b.until(isProbe) // nobody said that abc is held
		if probe.GetChunk().Off != 3 {
			t.Errorf("asked with %v", probe)
		}
		b.reply(probe, workpb.Verdict_GAP, 0)
		if c := b.until(isText).GetChunk(); c.Off != 0 || c.Text != "abc" {
			t.Errorf("sent again: %v", c)
		}
		b.reply(probe, workpb.Verdict_KNOWN, 3)
		if c := b.until(isProbe).GetChunk(); c.Off != 3 { // now it is a sign of life
			t.Errorf("sign of life %v", c)
		}
		b.reply(probe, workpb.Verdict_SUPERSEDED, 3)
	})
}

func TestDoneIsRepeatedUntilConfirmed(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.start(say("abc"))
		b.begin("q")
		first, second := b.until(isDone), b.until(isDone)
		if first.GetDone().Len != 3 || second.GetDone().Len != 3 {
			t.Errorf("%v, then %v", first, second)
		}
		b.reply(second, workpb.Verdict_CLOSED, 3)
	})
}

func TestBeginIsRepeatedUntilDecided(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		s := say("abc")
		b.start(s)
		b.ask("echo", "q")
		first, second := b.next(), b.next()
		if first.Nonce != second.Nonce || !isBegin(second) {
			t.Errorf("%v, then %v", first, second)
		}
		b.reply(second, workpb.Verdict_LEASED, 0)
		b.emptied()
		b.begin("r")
		done := b.until(isDone)
		b.reply(done, workpb.Verdict_ACCEPTED, 3)
		if job := <-s.calls; job.Prompt != "r" || len(s.calls) > 0 {
			t.Errorf("the model was asked %q, and %d more", job.Prompt, len(s.calls))
		}
	})
}

func TestStopEndsTheModel(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		s := say("abc")
		s.hang = true
		b.start(s, func(c *Config) { c.Concurrency = 1 })
		b.begin("q")
		piece := b.until(isText)
		b.reply(piece, workpb.Verdict_ACCEPTED, 3, func(r *workpb.Reply) { r.Stop = true })
		b.begin("r") // there is only one place: the first has ended
		b.reply(b.until(isText), workpb.Verdict_UNKNOWN, 0)
	})
}

func TestHowAnswersEnd(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		failing := say("ab")
		failing.err = errors.New("backend said \xff" + strings.Repeat("x", 2*maxErr))
		long := say(strings.Repeat("x", 100), strings.Repeat("y", 100))
		b.start(&byPrompt{map[string]llm.LLM{"fail": failing, "long": long}}, func(c *Config) { c.MaxAnswer = 150 })
		b.begin("fail")
		d := b.until(isDone)
		if !d.GetDone().Failed || d.GetDone().Len != 2 || !strings.HasPrefix(d.GetDone().Err, "backend said x") || len(d.GetDone().Err) > maxErr {
			t.Errorf("failed: %v", d)
		}
		b.reply(d, workpb.Verdict_ACCEPTED, 2)
		b.begin("long")
		d = b.until(isDone)
		if d.GetDone().Failed || d.GetDone().Fin != "length" || d.GetDone().Len != 150 {
			t.Errorf("too long: %v", d)
		}
		b.reply(d, workpb.Verdict_ACCEPTED, 150)
	})
}

type byPrompt struct{ m map[string]llm.LLM }

func (b *byPrompt) Answer(ctx context.Context, job llm.Job, emit func(string) error) (llm.Result, error) {
	return b.m[job.Prompt].Answer(ctx, job, emit)
}

func TestUnconfirmedOutputIsBounded(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		s := say(strings.Repeat("x", window+100))
		s.hang = true
		b.start(s)
		b.begin("q")
		sent := 0
		probe := b.until(func(r *workpb.Report) bool {
			sent += len(r.GetChunk().GetText())
			if len(r.GetChunk().GetText()) > maxChunk {
				t.Errorf("a piece of %d bytes", len(r.GetChunk().Text))
			}
			return isProbe(r)
		})
		if sent != window {
			t.Errorf("%d bytes were sent without a confirmation", sent)
		}
		b.reply(probe, workpb.Verdict_KNOWN, window)
		if c := b.until(isText).GetChunk(); c.Off != window || len(c.Text) != 100 {
			t.Errorf("then %d bytes at %d", len(c.Text), c.Off)
		}
		b.reply(probe, workpb.Verdict_CLOSED, window+100)
	})
}

func TestNoMoreJobsThanPlaces(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		models := []string{"a", "b", "c"}
		for i := range 6 {
			b.ask(models[i%3], fmt.Sprint("q", i))
			b.ask("", fmt.Sprint("d", i))
		}
		b.start(say("x"), func(c *Config) { c.Models, c.Concurrency = models, 2 })
		seen := map[string]bool{}
		for len(seen) < 12 {
			begin := b.until(isBegin)
			if taken := b.taken(append(models, "")); taken > 2 {
				t.Fatalf("%d jobs are taken for 2 places", taken)
			}
			seen[begin.Run] = true
			b.reply(begin, workpb.Verdict_CLOSED, 0)
		}
	})
}

// taken counts the jobs that are delivered and not done with, at one moment.
func (b *bench) taken(models []string) int64 {
	b.t.Helper()
	tx := b.redis.Client().TxPipeline()
	for _, m := range models {
		tx.XPending(context.Background(), b.keys.Jobs(m), stream.Group)
	}
	cmds, err := tx.Exec(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	n := int64(0)
	for _, c := range cmds {
		n += c.(*redis.XPendingCmd).Val().Count
	}
	return n
}

func TestGraceLetsAnswersEnd(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		s := say("abc")
		stop := b.start(s, func(c *Config) { c.Grace = limit })
		b.begin("q")
		done := b.until(isDone)
		ended := make(chan struct{})
		go func() {
			stop()
			close(ended)
		}()
		b.poll("the worker is off the list", func() bool {
			n, err := b.redis.Client().SCard(context.Background(), b.keys.Workers()).Result()
			return err == nil && n == 0
		})
		b.until(isDone)
		select {
		case <-ended:
			t.Error("the worker ended before its answer was confirmed")
		default:
		}
		b.reply(done, workpb.Verdict_ACCEPTED, 3)
		<-ended
	})
}

func TestJobsThatWereNotBegunAreGivenBack(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		stop := b.start(say("abc"))
		b.ask("echo", "q")
		b.until(isBegin)
		stop()
		n, err := b.redis.Client().XLen(context.Background(), b.keys.Jobs("echo")).Result()
		names, err2 := b.redis.Client().XInfoConsumers(context.Background(), b.keys.Jobs("echo"), stream.Group).Result()
		if n != 0 || len(names) != 0 || err != nil || err2 != nil {
			t.Errorf("%d jobs and %d consumers are left: %v %v", n, len(names), err, err2)
		}
	})
}

func TestMalformedJobsAndRepliesArePassedOver(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.start(say("abc"))
		ctx := context.Background()
		for _, key := range []string{b.keys.Jobs("echo"), b.keys.Control()} {
			for _, m := range []string{"", "\xff"} {
				args, _ := stream.Entry(key, &workpb.Job{})
				args.Values = []any{stream.Field, m}
				if err := b.redis.Client().XAdd(ctx, args).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.begin("q")
		b.reply(b.until(isDone), workpb.Verdict_ACCEPTED, 3)
		b.emptied()
	})
}

func TestConfigIsChecked(t *testing.T) {
	_, err := New(Config{Region: "", Redis: "x", Models: []string{"a\n", "b", "b"}, Concurrency: -1, Silence: time.Hour, Block: 1})
	for _, want := range []string{"region", "LLM", `"a\n"`, `"b"`, "concurrency", "lease", "block", "redis url"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	reg := prometheus.NewRegistry()
	if _, err := New(Config{Region: "r", Redis: "redis://127.0.0.1:1", Models: []string{"a"}, LLM: llm.Echo{}, Registerer: reg}); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

func TestControlStreamStartsAgain(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx, c := context.Background(), b.redis.Client()
		args, err := stream.Entry(b.keys.Control(), &workpb.Reply{})
		if err != nil {
			t.Fatal(err)
		}
		args.ID = "99999999999999-0" // by a clock that is ahead of the one that Redis has now
		if err := c.XAdd(ctx, args).Err(); err != nil {
			t.Fatal(err)
		}
		b.start(say("abc"))
		c.Del(ctx, b.keys.Control())
		b.begin("q")
		b.reply(b.until(isDone), workpb.Verdict_ACCEPTED, 3)
		b.emptied()
	})
}
