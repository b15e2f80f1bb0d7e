package worker

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/roamsync/roam/dispatch/internal/stream"
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

// pace is how an attempt measures time.
type pace struct {
	resend  time.Duration // until the region is asked for its confirmation
	silence time.Duration // until a sign of life
	again   func(reason string)
}

// attempt is one try to fill an answer slot, as seen by the worker: what to report next, and what a reply means. It
// does nothing itself: whoever owns it asks for the next report, sends it, says what came of that, passes replies on,
// and comes again when it is due, when there is a reply, or when the output has grown.
type attempt struct {
	model string
	out   *output
	pace  pace

	begun   bool   // the region let it have the slot
	asked   bool   // begin was sent
	sent    uint64 // reported up to here
	held    uint64 // confirmed up to here
	closing bool   // done was sent since the last gap
	failing bool   // Redis did not take the last report; nothing is sent until due
	gap     uint64 // where the last gap was
	gapAt   time.Time
	due     time.Time // when to speak without a reason
	resend  stream.Backoff
	retry   stream.Backoff
}

// next is what to report now; nil: nothing.
func (a *attempt) next(now time.Time) *workpb.Report {
	due := !now.Before(a.due)
	switch {
	case (a.failing || !a.begun) && !due:
		return nil
	case !a.begun:
		return &workpb.Report{What: &workpb.Report_Begin{Begin: &workpb.Begin{Model: a.model}}}
	case !a.closing:
		if text, last := a.piece(); text != "" {
			return chunk(a.sent, text)
		} else if last {
			return a.done()
		}
	}
	if due {
		return a.probe()
	}
	return nil
}

// ready reports whether the model has said something that next would report.
func (a *attempt) ready() bool {
	text, last := a.piece()
	return a.begun && !a.failing && !a.closing && (text != "" || last)
}

// piece is what can be reported now, and whether the answer ends with it.
func (a *attempt) piece() (text string, last bool) {
	room := a.held + window - min(a.sent, a.held+window)
	return a.out.piece(a.sent, min(maxChunk, room))
}

// probe speaks although there is nothing new: an empty piece keeps the lease, and if the region lacks what was sent
// before it, it is answered with a gap. Nothing is sent twice on suspicion.
func (a *attempt) probe() *workpb.Report {
	if a.closing {
		return a.done()
	}
	return chunk(a.sent, "")
}

// said notes what came of sending what next returned, and plans when to speak again: sooner if the region owes a
// confirmation.
func (a *attempt) said(now time.Time, r *workpb.Report, err error) {
	if a.failing = err != nil; a.failing {
		a.due = now.Add(a.retry.Next())
		return
	}
	a.retry.Reset()
	if text := r.GetChunk().GetText(); text != "" {
		a.sent += uint64(len(text))
		a.due = now.Add(a.pace.resend)
		return
	}
	silent := a.held < a.sent // it was asked for a confirmation
	switch r.What.(type) {
	case *workpb.Report_Begin:
		silent, a.asked = a.asked, true
	case *workpb.Report_Done:
		silent, a.closing = a.closing, true
	default:
		if !silent {
			a.due = now.Add(a.pace.silence)
			return
		}
	}
	if silent {
		a.pace.again(resendSilent)
	}
	a.due = now.Add(a.resend.Next())
}

// heed acts on a reply; it returns the outcome if that was the last.
func (a *attempt) heed(now time.Time, r *workpb.Reply) (outcome string) {
	a.resend.Reset()
	if !a.begun {
		return a.start(now, r)
	}
	switch r.Verdict {
	case workpb.Verdict_ACCEPTED, workpb.Verdict_KNOWN:
		if r.To == workpb.Kind_DONE {
			return jobDone
		}
	case workpb.Verdict_GAP:
		a.rewind(now, r.Len)
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
	if !a.closing && !a.failing && a.held == a.sent {
		a.due = now.Add(a.pace.silence)
	}
	return ""
}

// start acts on the reply to begin.
func (a *attempt) start(now time.Time, r *workpb.Reply) (outcome string) {
	if r.Stop || (r.Verdict != workpb.Verdict_ACCEPTED && r.Verdict != workpb.Verdict_KNOWN) {
		return jobDropped
	}
	a.retry.Reset()
	a.begun, a.failing = true, false
	a.due = now.Add(a.pace.silence)
	return ""
}

// rewind goes back to where the region lacks a piece. What was under way then is answered with the same gap again,
// which is passed over for a while.
func (a *attempt) rewind(now time.Time, to uint64) {
	missing := to < a.sent || a.closing
	if !missing || (to == a.gap && now.Sub(a.gapAt) < a.pace.resend) {
		return
	}
	a.gap, a.gapAt = to, now
	a.sent, a.held, a.closing = to, to, false
	a.pace.again(resendGap)
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
