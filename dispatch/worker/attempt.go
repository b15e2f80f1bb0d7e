package worker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/wire/workpb"
)

const (
	// maxChunk bounds the text of one report, in bytes.
	maxChunk = 16 << 10
	// window bounds what is sent and not confirmed, in bytes: while the region does not listen, Redis does not fill up.
	window = 256 << 10
	// maxErr bounds what is said of a failure, maxUsage the usage that is passed on, in bytes.
	maxErr   = 1 << 10
	maxUsage = 4 << 10
)

// attempt is one try to fill an answer slot. All but box and out is owned by run.
type attempt struct {
	s     *session
	job   *workpb.Job
	model string
	nonce string
	box   mailbox
	out   *output

	sent    uint64 // reported up to here
	held    uint64 // confirmed up to here
	closing bool   // done was sent since the last gap
	failing bool   // Redis did not take the last report; nothing is sent until due
	gap     uint64 // where the last gap was
	gapAt   time.Time
	due     time.Time // when to speak without a reason
	resend  stream.Backoff
	retry   stream.Backoff
	trace   *journey
}

// serve works on a job, in a place that take reserved.
func (s *session) serve(ctx context.Context, d *delivery) {
	defer s.release(1)
	a := &attempt{
		s: s, job: d.job, model: d.job.Model, nonce: nonce(), out: newOutput(s.cfg.MaxAnswer),
		resend: stream.Backoff{Min: s.cfg.Resend, Max: max(s.cfg.Resend, s.cfg.Silence)},
		retry:  stream.Backoff{Min: 50 * time.Millisecond, Max: 2 * time.Second},
	}
	a.box.arrived = make(chan struct{}, 1)
	if a.model == "" {
		a.model = s.preferred(d.job)
	}
	s.mu.Lock()
	s.attempts[a.nonce] = a
	s.mu.Unlock()
	s.met.running.Inc()
	a.trace, ctx = s.journeyOf(ctx, d)
	taken := time.Now()
	outcome := a.run(ctx, d)
	if outcome == jobDone {
		s.met.answer.Observe(time.Since(taken).Seconds())
	}
	a.trace.end(outcome)
	s.met.running.Dec()
	s.met.jobs.WithLabelValues(outcome).Inc()
	s.mu.Lock()
	delete(s.attempts, a.nonce)
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

// run asks for the slot, then has the model answer and reports it. The job's entry goes as soon as the region has
// decided: from then on the region's lease says who answers.
func (a *attempt) run(ctx context.Context, d *delivery) string {
	begun, ok := a.begin(ctx)
	if !ok {
		return jobLeft
	}
	a.s.ack(ctx, d)
	if !begun {
		return jobDropped
	}
	model, cancel := context.WithCancel(ctx)
	var generating sync.WaitGroup
	generating.Go(func() { a.out.finish(a.ask(model)) })
	outcome := a.report(ctx)
	cancel()
	generating.Wait()
	return outcome
}

// ask has the model answer.
func (a *attempt) ask(ctx context.Context) (llm.Result, error) {
	q := a.question()
	ctx, answered := a.trace.asking(ctx, &q, a.s.cfg.Provider)
	res, err := a.s.cfg.LLM.Answer(ctx, q, firstPiece(time.Now(), a.out.emit, a.s.met.first.Observe))
	answered(res, err)
	if err != nil && ctx.Err() == nil && !errors.Is(err, llm.ErrFull) {
		a.s.cfg.Logger.WarnContext(ctx, "the model failed", "session", q.Session, "run", q.Run, "model", q.Model, "err", err)
	}
	return res, err
}

func (a *attempt) question() llm.Job {
	j := llm.Job{
		Session: a.job.Session, Run: a.job.Run, Model: a.model, Prompt: a.job.Prompt, Settings: map[string]json.RawMessage{},
	}
	for _, m := range a.job.Messages {
		j.Messages = append(j.Messages, llm.Message{Role: m.Role, Text: m.Text, Parts: m.Parts})
	}
	for k, v := range a.job.Settings {
		j.Settings[k] = v
	}
	return j
}

// begin asks for the slot until the region has decided; ok is false if ctx ended first.
func (a *attempt) begin(ctx context.Context) (begun, ok bool) {
	for {
		wait := &a.resend
		if err := a.send(ctx, &workpb.Report{What: &workpb.Report_Begin{Begin: &workpb.Begin{Model: a.model}}}); err != nil {
			wait = &a.retry
		}
		again := time.NewTimer(wait.Next())
		select {
		case <-ctx.Done():
		case <-a.box.arrived:
		case <-again.C:
		}
		again.Stop()
		if ctx.Err() != nil {
			return false, false
		}
		if r := a.box.take(); r != nil {
			a.resend.Reset()
			a.retry.Reset()
			accepted := r.Verdict == workpb.Verdict_ACCEPTED || r.Verdict == workpb.Verdict_KNOWN
			return accepted && !r.Stop, true
		}
		a.s.met.resends.WithLabelValues(resendSilent).Inc()
	}
}

// report reports what the model says until the region has it all, or does not want it.
func (a *attempt) report(ctx context.Context) string {
	a.plan(a.s.cfg.Silence)
	for {
		a.flush(ctx)
		timer := time.NewTimer(time.Until(a.due))
		select {
		case <-ctx.Done():
		case <-a.out.changed:
		case <-a.box.arrived:
		case <-timer.C:
			a.speak(ctx)
		}
		timer.Stop()
		if ctx.Err() != nil {
			return jobLeft
		}
		if r := a.box.take(); r != nil {
			if outcome := a.heed(r); outcome != "" {
				return outcome
			}
		}
	}
}

// flush reports what was not yet, and that the answer is complete.
func (a *attempt) flush(ctx context.Context) {
	for !a.closing && !a.failing && ctx.Err() == nil {
		text, last := a.next()
		if text != "" {
			if !a.say(ctx, chunk(a.sent, text)) {
				return
			}
			a.sent += uint64(len(text))
		}
		if !last {
			if text == "" {
				return
			}
			continue
		}
		if !a.say(ctx, a.done()) {
			return
		}
		a.closing = true
		a.plan(a.resend.Next())
	}
}

// next is what can be reported now, and whether the answer ends with it.
func (a *attempt) next() (text string, last bool) {
	room := a.held + window - min(a.sent, a.held+window)
	return a.out.piece(a.sent, min(maxChunk, room))
}

// say sends a report, and plans when to speak again: sooner if the region owes a confirmation.
func (a *attempt) say(ctx context.Context, r *workpb.Report) bool {
	if err := a.send(ctx, r); err != nil {
		a.failing = true
		a.plan(a.retry.Next())
		return false
	}
	a.retry.Reset()
	if r.GetChunk().GetText() != "" {
		a.plan(a.s.cfg.Resend)
	} else {
		a.plan(a.s.cfg.Silence)
	}
	return true
}

func (a *attempt) plan(in time.Duration) { a.due = time.Now().Add(in) }

// speak is called when it was planned: there is something to report that failed before, or nothing was said for long.
func (a *attempt) speak(ctx context.Context) {
	a.failing = false
	if text, last := a.next(); a.closing || (text == "" && !last) {
		a.probe(ctx)
	}
}

// probe speaks although there is nothing new: an empty piece keeps the lease, and if the region lacks what was sent
// before it, it is answered with a gap. Nothing is sent twice on suspicion.
func (a *attempt) probe(ctx context.Context) {
	owed := a.closing || a.held < a.sent
	r := chunk(a.sent, "")
	if a.closing {
		r = a.done()
	}
	if a.say(ctx, r) && owed {
		a.s.met.resends.WithLabelValues(resendSilent).Inc()
		a.plan(a.resend.Next())
	}
}

// heed acts on a reply; it returns the outcome if that was the last.
func (a *attempt) heed(r *workpb.Reply) (outcome string) {
	a.resend.Reset()
	switch r.Verdict {
	case workpb.Verdict_ACCEPTED, workpb.Verdict_KNOWN:
		if r.To == workpb.Kind_DONE {
			return jobDone
		}
	case workpb.Verdict_GAP:
		a.rewind(r.Len)
	case workpb.Verdict_CLOSED:
		if a.closing {
			return jobDone
		}
		return jobDropped
	default:
		return jobDropped
	}
	if r.Stop || r.Len > a.out.len() {
		return jobDropped // the user asked for the end, or the region has what this attempt never said
	}
	a.held = max(a.held, r.Len)
	a.sent = max(a.sent, a.held)
	if !a.closing && a.held == a.sent {
		a.plan(a.s.cfg.Silence)
	}
	return ""
}

// rewind goes back to where the region lacks a piece. What was under way then is answered with the same gap again,
// which is passed over for a while.
func (a *attempt) rewind(to uint64) {
	now := time.Now()
	missing := to < a.sent || a.closing
	if !missing || (to == a.gap && now.Sub(a.gapAt) < a.s.cfg.Resend) {
		return
	}
	a.gap, a.gapAt = to, now
	a.sent, a.held, a.closing = to, to, false
	a.s.met.resends.WithLabelValues(resendGap).Inc()
}

// send adds a report to the results.
func (a *attempt) send(ctx context.Context, r *workpb.Report) error {
	r.Session, r.Run, r.Nonce = a.job.Session, a.job.Run, a.nonce
	a.trace.mark(r)
	args, err := stream.Entry(a.s.keys.Results(), r)
	if err == nil {
		err = a.s.redis.XAdd(ctx, args).Err()
	}
	if err != nil {
		a.s.failed(ctx, "report", err)
	}
	return err
}

func chunk(off uint64, text string) *workpb.Report {
	return &workpb.Report{What: &workpb.Report_Chunk{Chunk: &workpb.Chunk{Off: off, Text: text}}}
}

// done closes the attempt the way the model ended.
func (a *attempt) done() *workpb.Report {
	res, full, err := a.out.outcome()
	d := &workpb.Done{Len: a.sent, Fin: res.Fin}
	switch {
	case full:
		d.Fin = "length"
	case err != nil:
		d.Failed, d.Fin, d.Err = true, "error", cut(err.Error(), maxErr)
	case d.Fin != "length" && d.Fin != "filter" && d.Fin != "tool":
		d.Fin = "end"
	}
	if len(res.Usage) <= maxUsage && json.Valid(res.Usage) {
		d.Usage = res.Usage
	}
	return &workpb.Report{What: &workpb.Report_Done{Done: d}}
}

// cut bounds a text, and makes it valid UTF-8.
func cut(s string, size int) string {
	return strings.ToValidUTF8(s[:min(size, len(s))], "")
}
