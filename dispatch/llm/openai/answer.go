package openai

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/roamsync/roam/dispatch/llm"
)

// Causes of an end that this side decides.
var (
	errTotal      = errors.New("the time for the whole answer is over")
	errFirstToken = errors.New("the time for the first token is over")
	errIdle       = errors.New("the time between two tokens is over")
	errTail       = errors.New("the time after the finish_reason is over")
)

// Answer implements llm.LLM. A request that brought no text may be made again; once there was text it is not: another try
// would be another text, and what clients have of the first cannot be taken back.
func (m *Model) Answer(caller context.Context, job llm.Job, emit func(string) error) (llm.Result, error) {
	req, err := m.request(job)
	if err != nil {
		return llm.Result{}, err
	}
	ctx, cancel := context.WithTimeoutCause(caller, m.cfg.Total, errTotal)
	defer cancel()
	for tries := 1; ; tries++ {
		res, said, err := m.try(ctx, req, emit)
		var fail *failure
		if !errors.As(err, &fail) {
			m.learn(req, err)
			return res, err
		}
		if m.adapt(req, fail) {
			tries-- // each adaptation happens once
			continue
		}
		if said || !fail.again || tries > m.cfg.Retries {
			return llm.Result{}, m.report(job, fail, tries)
		}
		if !pause(ctx, m.delay(tries, fail.after)) {
			if caller.Err() != nil {
				return llm.Result{}, caller.Err()
			}
			return llm.Result{}, m.report(job, fail, tries)
		}
	}
}

// try makes one request. An error that is no failure is the caller's own: of its emit, or of its context.
func (m *Model) try(ctx context.Context, req *request, emit func(string) error) (llm.Result, bool, error) {
	watched, w := m.watch(ctx)
	defer w.stop()
	s := &stream{emit: emit, watch: w, key: secret(m.cfg.APIKey)}
	err := m.ask(watched, req, s)
	err = s.judge(ctx, watched, err)
	var fail *failure
	switch {
	case err == nil:
		m.met.requests.WithLabelValues(outcomeAnswered).Inc()
	case errors.As(err, &fail):
		m.met.requests.WithLabelValues(fail.reason).Inc()
	default:
		m.met.requests.WithLabelValues(outcomeStopped).Inc()
	}
	return s.result(), s.said, err
}

func (m *Model) ask(ctx context.Context, req *request, s *stream) error {
	res, err := m.post(ctx, req)
	if err != nil {
		return unreachable(err)
	}
	defer res.Body.Close()
	if err := refusal(res, req.Model, s.key); err != nil {
		return err
	}
	return s.read(res.Body)
}

// adapt changes a request that was refused for something that servers differ in, once for each such thing.
func (m *Model) adapt(r *request, f *failure) bool {
	switch {
	case r.StreamOptions != nil && f.refuses("stream_options"):
		r.StreamOptions = nil
		return true
	case !r.swapped && (r.MaxTokens != nil && f.refuses("max_tokens") || r.MaxCompletionTokens != nil && f.refuses("max_completion_tokens")):
		r.swapLength()
		r.swapped = true
		return true
	}
	return false
}

// learn keeps what a request that was answered had to be like.
func (m *Model) learn(r *request, err error) {
	if err != nil {
		return
	}
	d := m.dialectOf(r.Model)
	if r.StreamOptions == nil {
		d.noUsage.Store(true)
	}
	if r.swapped {
		d.otherLength.Store(m.newLength() != (r.MaxCompletionTokens != nil))
	}
}

// report logs a failure with what only an operator may see, and returns what everybody may.
func (m *Model) report(job llm.Job, f *failure, tries int) error {
	m.cfg.Logger.Warn("answer failed", "reason", f.reason, "err", f.text, "detail", f.detail, "tries", tries,
		"url", m.url, "model", job.Model, "session", job.Session, "run", job.Run)
	if tries > 1 {
		return fmt.Errorf("%w (tried %d times)", f, tries)
	}
	return f
}

// delay is how long to wait after a number of tries: any time up to a bound that doubles, so that workers that were
// refused together do not come back together; what the server asked for comes on top.
func (m *Model) delay(tries int, after time.Duration) time.Duration {
	bound := min(m.cfg.Backoff<<min(tries-1, MaxRetries), maxBackoff)
	return after + rand.N(bound+1)
}

// pause waits, and reports whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// watchdog ends a request that brings no token in time. One goroutine owns it.
type watchdog struct {
	timer *time.Timer
	end   context.CancelCauseFunc
	idle  time.Duration
}

func (m *Model) watch(ctx context.Context) (context.Context, *watchdog) {
	ctx, end := context.WithCancelCause(ctx)
	w := &watchdog{end: end, idle: m.cfg.Idle}
	w.expect(m.cfg.FirstToken, errFirstToken)
	return ctx, w
}

// expect gives the next token its time.
func (w *watchdog) expect(in time.Duration, cause error) {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(in, func() { w.end(cause) })
}

func (w *watchdog) stop() {
	w.timer.Stop()
	w.end(nil)
}
