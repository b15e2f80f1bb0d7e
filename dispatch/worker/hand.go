package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/dispatch/llm"
)

// ErrOver is what Say returns when nothing more can be said: the region has the answer or does not want it, or the
// model has ended.
var ErrOver = errors.New("the answer is over")

// Hand is a worker that its owner drives, step by step: it starts no goroutine, does not wait for Redis to have
// something, and goes by the time that it is told. It does what Run does, but the models are the owner's: Step tells
// which answers are to be made, Say and End what their models say. Config.LLM is not asked. A Hand has one owner.
type Hand struct {
	ctx     context.Context
	s       *session
	here    bool // connected, for the first time
	now     time.Time
	answers []*Answer // in the order in which their jobs were taken

	arriving, hearing, taking, announcing errand
}

// Answer is one that a Hand makes.
type Answer struct {
	// Job is what the model is asked.
	Job   llm.Job
	w     *work
	ended bool // the model has
	over  bool
}

// Over reports whether nothing more is to be said: the model may stop.
func (a *Answer) Over() bool { return a.over }

// Nonce names the attempt.
func (a *Answer) Nonce() string { return a.w.nonce }

// errand is done with every step, or every so often; after a failure it waits for longer and longer.
type errand struct {
	at    time.Time
	retry stream.Backoff
}

// do does it when it is due.
func (e *errand) do(now time.Time, every time.Duration, what func() error) error {
	if now.Before(e.at) {
		return nil
	}
	if err := what(); err != nil {
		e.at = now.Add(e.retry.Next())
		return err
	}
	e.retry.Reset()
	e.at = now.Add(every)
	return nil
}

// Hand makes the clients of Redis for a Hand; nothing is sent before the first Step. ctx is that of all its commands.
// Close ends it.
func (w *Worker) Hand(ctx context.Context) (*Hand, error) {
	s, err := w.open()
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	read := errand{retry: w.cfg.backoff(50*time.Millisecond, 2*time.Second)}
	return &Hand{
		ctx: ctx, s: s, arriving: read, hearing: read, taking: read,
		announcing: errand{retry: w.cfg.backoff(100*time.Millisecond, w.cfg.Announce)},
	}, nil
}

// Step does all that there is to do now: it reads replies and jobs that are there, announces the worker, and reports.
// It returns the answers that the region has given to this worker, for their models to begin. An error says that Redis
// failed: the Hand goes on, and tries again when that is due. Time does not go back from one step to the next.
func (h *Hand) Step(now time.Time) (started []*Answer, err error) {
	h.now = now
	if !h.here {
		if now.Before(h.arriving.at) {
			return nil, nil
		}
		if err := h.arriving.do(now, 0, func() error { return h.s.arrive(h.ctx) }); err != nil {
			return nil, err
		}
		h.here, h.announcing.at = true, now.Add(h.s.cfg.Announce)
	}
	heard := h.hearing.do(now, 0, func() error { return h.s.hear(h.ctx, stream.NoWait) })
	started = h.listen()
	took := h.taking.do(now, 0, h.take)
	select {
	case <-h.s.renew:
		h.announcing.at = now
	default:
	}
	shown := h.announcing.do(now, h.s.cfg.Announce, func() error { return h.s.announceOnce(h.ctx) })
	return started, errors.Join(heard, took, shown, h.speak())
}

// listen heeds the replies that came, and returns the answers that the region has given to this worker.
func (h *Hand) listen() (started []*Answer) {
	for _, a := range h.answers {
		begun, outcome := a.w.listen(h.ctx, h.now)
		if outcome != "" {
			h.end(a, outcome)
		}
		if begun {
			a.Job = a.w.question()
			started = append(started, a)
		}
	}
	h.answers = slices.DeleteFunc(h.answers, (*Answer).Over)
	return started
}

func (h *Hand) end(a *Answer, outcome string) {
	a.over = true
	a.w.end(outcome, h.now)
}

// take takes as many jobs as fit. With fewer places than streams a read looks at some of them: it goes on until it has
// looked at all.
func (h *Hand) take() error {
	for looked := 0; looked < len(h.s.streams); {
		free := min(h.s.cfg.Concurrency-len(h.answers), maxTake)
		if free <= 0 {
			return nil
		}
		jobs, err := h.s.fetch(h.ctx, free, stream.NoWait)
		for _, d := range jobs {
			w, _ := h.s.begin(h.ctx, d, h.now)
			h.answers = append(h.answers, &Answer{w: w})
		}
		if err != nil {
			return err
		}
		looked += free
	}
	return nil
}

// speak has every answer report what is due.
func (h *Hand) speak() error {
	var errs []error
	for _, a := range h.answers {
		errs = append(errs, a.w.speak(h.ctx, func() time.Time { return h.now }))
	}
	return errors.Join(errs...)
}

// Say adds a piece of an answer; the next Step reports it. It returns what a model's emit would: llm.ErrFull when the
// answer is as long as it may be, ErrOver when nobody wants more of it.
func (h *Hand) Say(a *Answer, piece string) error {
	if a.over || a.ended {
		return ErrOver
	}
	return a.w.out.emit(piece)
}

// End says that an answer's model has ended, as llm.LLM's Answer would return; the next Step reports it.
func (h *Hand) End(a *Answer, res llm.Result, err error) {
	if !a.over && !a.ended {
		a.ended = true
		a.w.out.finish(res, err)
	}
}

// Due is when the next Step has something to do by itself; the zero time: at once. Of what arrives in Redis a Hand is
// not told: its owner steps when that may be so, as well.
func (h *Hand) Due() time.Time {
	if !h.here {
		return h.arriving.at
	}
	if len(h.s.renew) > 0 {
		return time.Time{}
	}
	at := h.announcing.at
	for _, e := range []*errand{&h.hearing, &h.taking} {
		if e.at.After(h.now) && e.at.Before(at) { // it failed
			at = e.at
		}
	}
	for _, a := range h.answers {
		if a.w.ready() {
			return time.Time{}
		}
		if a.w.due.Before(at) {
			at = a.w.due
		}
	}
	return at
}

// Close ends the Hand the way a worker dies: nobody is told, and what it had taken stays with it until it is missed.
func (h *Hand) Close() {
	for _, a := range h.answers {
		h.end(a, jobLeft)
	}
	h.answers = nil
	h.s.redis.Close()
	h.s.jobs.Close()
	h.s.control.Close()
}
