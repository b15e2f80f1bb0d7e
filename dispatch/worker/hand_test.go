package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/wire/workpb"
)

// byHand is a bench's worker that the test drives.
type byHand struct {
	*Hand
	b   *bench
	now time.Time
}

func (b *bench) hand(change ...func(*Config)) *byHand {
	b.t.Helper()
	cfg := Config{
		Redis: b.redis.URL(), Region: "r", Models: []string{"echo"}, LLM: llm.Echo{}, Concurrency: 1,
		Draw: func(n int64) int64 { return n - 1 },
	}
	for _, c := range change {
		c(&cfg)
	}
	w, err := New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	h, err := w.Hand(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(h.Close)
	return &byHand{Hand: h, b: b, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// steps makes a step after some time; it returns the answers that are to be made.
func (h *byHand) steps(after time.Duration) []*Answer {
	h.b.t.Helper()
	h.now = h.now.Add(after)
	started, err := h.Step(h.now)
	if err != nil {
		h.b.t.Fatal(err)
	}
	return started
}

// dueIn checks when the hand wants to make a step again; below zero it is at once.
func (h *byHand) dueIn(want time.Duration) {
	h.b.t.Helper()
	if at := h.Due(); want < 0 && !at.IsZero() || want >= 0 && at.Sub(h.now) != want {
		h.b.t.Errorf("due in %v, want %v", at.Sub(h.now), want)
	}
}

// started puts a question, and accepts the begin.
func (h *byHand) started(prompt string) *Answer {
	h.b.t.Helper()
	h.b.ask("echo", prompt)
	h.steps(0)
	h.dueIn(time.Second) // it asks again
	h.b.reply(h.b.until(isBegin), workpb.Verdict_ACCEPTED, 0)
	got := h.steps(0)
	if len(got) != 1 || got[0].Job.Prompt != prompt {
		h.b.t.Fatalf("started %v", got)
	}
	return got[0]
}

func TestHandAnswers(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		h := b.hand()
		h.dueIn(-1)
		h.steps(0)
		h.dueIn(3 * time.Second) // to be announced again
		a := h.started("q")
		h.dueIn(3 * time.Second)
		b.ask("echo", "more") // for which there is no place
		if err := h.Say(a, "abc"); err != nil {
			t.Error(err)
		}
		h.dueIn(-1)
		h.steps(0)
		h.dueIn(time.Second)
		if c := b.until(isText).GetChunk(); c.Text != "abc" {
			t.Errorf("piece %v", c)
		}
		h.End(a, llm.Result{Usage: []byte(`{"n":1}`)}, nil)
		if err := h.Say(a, "d"); !errors.Is(err, ErrOver) {
			t.Errorf("said after its end: %v", err)
		}
		h.steps(0)
		done := b.next()
		if d := done.GetDone(); d.GetLen() != 3 || string(d.GetUsage()) != `{"n":1}` {
			t.Errorf("done %v", done)
		}
		b.reply(done, workpb.Verdict_ACCEPTED, 3)
		if h.steps(0); !a.Over() {
			t.Error("it goes on")
		}
		if next := b.until(isBegin); next.Run != "run-more" {
			t.Errorf("then %v", next)
		}
	})
}

func TestHandStopsAndFills(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		h := b.hand(func(c *Config) { c.MaxAnswer = 4 })
		h.steps(0)
		a := h.started("q")
		if err := h.Say(a, "abcde"); !errors.Is(err, llm.ErrFull) {
			t.Errorf("too long: %v", err)
		}
		h.steps(0)
		b.reply(b.until(isText), workpb.Verdict_ACCEPTED, 4, func(r *workpb.Reply) { r.Stop = true })
		if h.steps(0); !a.Over() {
			t.Error("it goes on")
		}
		if err := h.Say(a, "f"); !errors.Is(err, ErrOver) {
			t.Errorf("said after its end: %v", err)
		}
	})
}

func TestHandTriesAgain(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		h := b.hand()
		b.redis.Kill()
		for _, wait := range []time.Duration{50, 100, 200} {
			if _, err := h.Step(h.now); err == nil {
				t.Error("it says that all is well")
			}
			h.dueIn(wait * time.Millisecond)
			h.now = h.Due()
		}
		b.redis.Start(t)
		h.steps(0)
		h.started("q")
	})
}
