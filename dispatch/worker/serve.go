package worker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/wire/workpb"
)

// work is a job in work. All but box and out is owned by its goroutine, or its Hand.
type work struct {
	attempt
	s     *session
	d     *delivery
	job   *workpb.Job
	nonce string
	box   mailbox
	trace *journey
	since time.Time
}

// begin makes the work on a job that was taken; replies to it are delivered from then on. The context that it returns
// is the work's.
func (s *session) begin(ctx context.Context, d *delivery, now time.Time) (*work, context.Context) {
	w := &work{s: s, d: d, job: d.job, nonce: s.cfg.Nonce(), since: now, attempt: attempt{
		model: d.job.Model, out: newOutput(s.cfg.MaxAnswer),
		pace: pace{resend: s.cfg.Resend, silence: s.cfg.Silence, again: func(reason string) {
			s.met.resends.WithLabelValues(reason).Inc()
		}},
		resend: s.cfg.backoff(s.cfg.Resend, max(s.cfg.Resend, s.cfg.Silence)),
		retry:  s.cfg.backoff(50*time.Millisecond, 2*time.Second),
	}}
	w.box.arrived = make(chan struct{}, 1)
	if w.model == "" {
		w.model = s.preferred(d.job)
	}
	s.mu.Lock()
	s.works[w.nonce] = w
	s.mu.Unlock()
	s.met.running.Inc()
	w.trace, ctx = s.journeyOf(ctx, d)
	return w, ctx
}

// end notes what became of the work.
func (w *work) end(outcome string, now time.Time) {
	s := w.s
	if outcome == jobDone {
		s.met.answer.Observe(now.Sub(w.since).Seconds())
	}
	w.trace.end(outcome)
	s.met.running.Dec()
	s.met.jobs.WithLabelValues(outcome).Inc()
	s.mu.Lock()
	delete(s.works, w.nonce)
	s.mu.Unlock()
}

// preferred is the model for who asks for none: the one that the session's settings name, if it is served here.
func (s *session) preferred(job *workpb.Job) string {
	var name string
	if json.Unmarshal(job.Settings["model"], &name) == nil && slices.Contains(s.cfg.Models, name) {
		return name
	}
	return s.cfg.Models[0]
}

// serve works on a job, in a place that take reserved.
func (s *session) serve(ctx context.Context, d *delivery) {
	defer s.release(1)
	w, ctx := s.begin(ctx, d, s.cfg.Now())
	model, cancel := context.WithCancel(ctx)
	defer cancel()
	var generating sync.WaitGroup
	outcome := w.run(ctx, func() {
		generating.Go(func() { w.out.finish(w.ask(model)) })
	})
	cancel()
	generating.Wait()
	w.end(outcome, s.cfg.Now())
}

// run sends what is to be reported and heeds what is replied, until the region has it all or does not want it, or ctx
// ends. It calls start when the region has given the slot.
func (w *work) run(ctx context.Context, start func()) (outcome string) {
	for {
		_ = w.speak(ctx, w.s.cfg.Now) // it is counted, and due again
		timer := time.NewTimer(w.due.Sub(w.s.cfg.Now()))
		select {
		case <-ctx.Done():
		case <-w.out.changed:
		case <-w.box.arrived:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return jobLeft
		}
		started, outcome := w.listen(ctx, w.s.cfg.Now())
		if outcome != "" {
			return outcome
		}
		if started {
			start()
		}
	}
}

// speak sends what is to be reported now. After an error it is due again.
func (w *work) speak(ctx context.Context, now func() time.Time) error {
	for ctx.Err() == nil {
		r := w.next(now())
		if r == nil {
			return nil
		}
		err := w.send(ctx, r)
		if w.said(now(), r, err); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// listen heeds a reply, if there is one; started reports whether it gave the slot. The job's entry goes as soon as the
// region has decided about that: from then on the region's lease says who answers.
func (w *work) listen(ctx context.Context, now time.Time) (started bool, outcome string) {
	r := w.box.take()
	if r == nil {
		return false, ""
	}
	first := !w.begun
	if first {
		w.s.ack(ctx, w.d)
	}
	outcome = w.heed(now, r)
	return first && outcome == "", outcome
}

// send adds a report to the results.
func (w *work) send(ctx context.Context, r *workpb.Report) error {
	r.Session, r.Run, r.Nonce = w.job.Session, w.job.Run, w.nonce
	w.trace.mark(r)
	args, err := stream.Entry(w.s.keys.Results(w.job.Group), r)
	if err == nil {
		err = w.s.redis.XAdd(ctx, args).Err()
	}
	if err != nil {
		w.s.failed(ctx, "report", err)
	}
	return err
}

// ask has the model answer.
func (w *work) ask(ctx context.Context) (llm.Result, error) {
	q := w.question()
	ctx, answered := w.trace.asking(ctx, &q, w.s.cfg.Provider)
	res, err := w.s.cfg.LLM.Answer(ctx, q, firstPiece(w.s.cfg.Now, w.out.emit, w.s.met.first.Observe))
	answered(res, err)
	if err != nil && ctx.Err() == nil && !errors.Is(err, llm.ErrFull) {
		w.s.cfg.Logger.WarnContext(ctx, "the model failed", "session", q.Session, "run", q.Run, "model", q.Model, "err", err)
	}
	return res, err
}

func (w *work) question() llm.Job {
	j := llm.Job{
		Session: w.job.Session, Run: w.job.Run, Model: w.model, Prompt: w.job.Prompt, Settings: map[string]json.RawMessage{},
	}
	for _, m := range w.job.Messages {
		j.Messages = append(j.Messages, llm.Message{Role: m.Role, Text: m.Text, Parts: m.Parts})
	}
	for k, v := range w.job.Settings {
		j.Settings[k] = v
	}
	return j
}
