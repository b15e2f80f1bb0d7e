package worker

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/wire/workpb"
)

// table is an attempt whose Redis, region, model and clock are the test.
type table struct {
	t      *testing.T
	a      *attempt
	now    time.Time
	resent []string
}

// Times of a table's attempt. A backoff that draws the most waits for all of its time.
const (
	resendIn  = time.Second
	silenceIn = 5 * time.Second
	retryIn   = 50 * time.Millisecond
)

func newTable(t *testing.T) *table {
	most := func(n int64) int64 { return n - 1 }
	b := &table{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	b.a = &attempt{
		model: "echo", out: newOutput(1 << 20),
		pace:   pace{resend: resendIn, silence: silenceIn, again: func(reason string) { b.resent = append(b.resent, reason) }},
		resend: stream.Backoff{Min: resendIn, Max: silenceIn, Draw: most},
		retry:  stream.Backoff{Min: retryIn, Max: 2 * time.Second, Draw: most},
	}
	return b
}

// begun returns a table whose attempt has the slot.
func begun(t *testing.T) *table {
	b := newTable(t)
	b.sends("begin")
	b.heeds(workpb.Verdict_ACCEPTED, 0, "")
	return b
}

func (b *table) say(pieces ...string) {
	for _, p := range pieces {
		if err := b.a.out.emit(p); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *table) end() { b.a.out.finish(llm.Result{}, nil) }

func (b *table) after(d time.Duration) { b.now = b.now.Add(d) }

// show names a report: begin, OFFSET:TEXT, or done LEN.
func show(r *workpb.Report) string {
	switch what := r.What.(type) {
	case *workpb.Report_Chunk:
		return fmt.Sprintf("%d:%s", what.Chunk.Off, what.Chunk.Text)
	case *workpb.Report_Done:
		return fmt.Sprint("done ", what.Done.Len)
	}
	return "begin"
}

// sends takes all that the attempt reports now; Redis takes it too.
func (b *table) sends(want ...string) {
	b.t.Helper()
	var got []string
	for r := b.a.next(b.now); r != nil; r = b.a.next(b.now) {
		if got = append(got, show(r)); len(got) > 100 {
			b.t.Fatalf("it does not stop: %q", got)
		}
		b.a.said(b.now, r, nil)
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("reports %q, want %q", got, want)
	}
}

// fails takes one report, which Redis does not.
func (b *table) fails(want string) {
	b.t.Helper()
	r := b.a.next(b.now)
	if r == nil || show(r) != want {
		b.t.Fatalf("reports %v, want %q", r, want)
	}
	b.a.said(b.now, r, errors.New("refused"))
	b.sends()
}

func (b *table) heeds(v workpb.Verdict, held uint64, want string) {
	b.t.Helper()
	b.replies(&workpb.Reply{Verdict: v, Len: held, To: workpb.Kind_CHUNK}, want)
}

func (b *table) replies(r *workpb.Reply, want string) {
	b.t.Helper()
	if got := b.a.heed(b.now, r); got != want {
		b.t.Errorf("%v comes to %q, want %q", r, got, want)
	}
}

func (b *table) countedAgain(want ...string) {
	b.t.Helper()
	if !slices.Equal(b.resent, want) {
		b.t.Errorf("sent again for %q, want %q", b.resent, want)
	}
}

func TestAttemptReportsAndEnds(t *testing.T) {
	b := begun(t)
	b.sends()
	b.say("abc")
	b.say("def")
	b.sends("0:abcdef")
	b.say("g")
	b.sends("6:g")
	b.heeds(workpb.Verdict_ACCEPTED, 6, "")
	b.end()
	b.sends("done 7")
	b.heeds(workpb.Verdict_ACCEPTED, 7, "") // of the piece before
	b.replies(&workpb.Reply{Verdict: workpb.Verdict_KNOWN, Len: 7, To: workpb.Kind_DONE}, jobDone)
	b.countedAgain()
}

func TestAttemptBegins(t *testing.T) {
	for _, c := range []struct {
		verdict workpb.Verdict
		stop    bool
		want    string
	}{
		{workpb.Verdict_ACCEPTED, false, ""}, {workpb.Verdict_KNOWN, false, ""},
		{workpb.Verdict_ACCEPTED, true, jobDropped}, {workpb.Verdict_LEASED, false, jobDropped},
		{workpb.Verdict_SUPERSEDED, false, jobDropped}, {workpb.Verdict_CLOSED, false, jobDropped},
		{workpb.Verdict_UNKNOWN, false, jobDropped}, {workpb.Verdict_GAP, false, jobDropped},
	} {
		b := newTable(t)
		b.say("x") // nothing is said before the slot is given
		b.sends("begin")
		b.after(resendIn)
		b.sends("begin")
		b.after(resendIn)
		b.sends() // the second wait is longer
		b.countedAgain(resendSilent)
		b.replies(&workpb.Reply{Verdict: c.verdict, Stop: c.stop, To: workpb.Kind_BEGIN}, c.want)
		if b.a.begun != (c.want == "") {
			t.Errorf("%v: begun is %v", c.verdict, b.a.begun)
		}
	}
}

func TestAttemptRewindsToAGap(t *testing.T) {
	b := begun(t)
	b.say("abc")
	b.sends("0:abc")
	b.say("def")
	b.sends("3:def")
	b.end()
	b.sends("done 6")
	b.heeds(workpb.Verdict_GAP, 2, "")
	b.sends("2:cdef", "done 6")
	b.heeds(workpb.Verdict_GAP, 2, "") // the answer to what was under way
	b.sends()
	b.after(resendIn)
	b.heeds(workpb.Verdict_GAP, 2, "") // it was lost again
	b.sends("2:cdef", "done 6")
	b.heeds(workpb.Verdict_GAP, 4, "")
	b.sends("4:ef", "done 6")
	b.countedAgain(resendGap, resendGap, resendGap)
	b.replies(&workpb.Reply{Verdict: workpb.Verdict_ACCEPTED, Len: 6, To: workpb.Kind_DONE}, jobDone)
}

func TestAttemptAsksWhenAReplyIsLost(t *testing.T) {
	b := begun(t)
	b.say("abc")
	b.sends("0:abc")
	b.after(resendIn - 1)
	b.sends()
	b.after(1)
	b.sends("3:") // asked at the end of what was sent: no text comes twice
	b.after(resendIn)
	b.sends("3:")
	b.countedAgain(resendSilent, resendSilent)
	b.heeds(workpb.Verdict_KNOWN, 3, "")
	b.after(silenceIn - 1)
	b.sends()
	b.after(1)
	b.sends("3:") // a sign of life is not counted
	b.countedAgain(resendSilent, resendSilent)
	b.end()
	b.sends("done 3")
	b.after(resendIn)
	b.sends("done 3")
	b.countedAgain(resendSilent, resendSilent, resendSilent)
}

func TestAttemptTriesAgainWhenRedisFails(t *testing.T) {
	b := newTable(t)
	b.fails("begin")
	b.after(retryIn)
	b.fails("begin")
	b.after(retryIn)
	b.sends()
	b.after(retryIn)
	b.sends("begin")
	b.heeds(workpb.Verdict_ACCEPTED, 0, "")
	b.say("abc")
	b.fails("0:abc")
	b.heeds(workpb.Verdict_KNOWN, 0, "") // which puts nothing off
	b.sends()
	b.after(retryIn)
	b.sends("0:abc")
	b.end()
	b.fails("done 3")
	b.after(retryIn)
	b.sends("done 3")
	b.countedAgain()
}

func TestAttemptGivesUp(t *testing.T) {
	for name, r := range map[string]*workpb.Reply{
		"leased":     {Verdict: workpb.Verdict_LEASED},
		"superseded": {Verdict: workpb.Verdict_SUPERSEDED},
		"unknown":    {Verdict: workpb.Verdict_UNKNOWN},
		"closed":     {Verdict: workpb.Verdict_CLOSED, Len: 3},
		"stop":       {Verdict: workpb.Verdict_ACCEPTED, Len: 3, Stop: true},
		"not mine":   {Verdict: workpb.Verdict_ACCEPTED, Len: 4},
	} {
		t.Run(name, func(t *testing.T) {
			b := begun(t)
			b.say("abc")
			b.sends("0:abc")
			b.replies(r, jobDropped)
		})
	}
	b := begun(t)
	b.end()
	b.sends("done 0")
	b.heeds(workpb.Verdict_CLOSED, 0, jobDone) // closed is what it asked for
}

func TestAttemptSendsNoMoreThanTheWindow(t *testing.T) {
	b := begun(t)
	b.say(string(make([]byte, window+1)))
	sent := 0
	for r := b.a.next(b.now); r != nil; r = b.a.next(b.now) {
		sent += len(r.GetChunk().GetText())
		b.a.said(b.now, r, nil)
	}
	if sent != window {
		t.Errorf("%d bytes are sent", sent)
	}
	b.heeds(workpb.Verdict_ACCEPTED, 1, "")
	b.sends(fmt.Sprintf("%d:\x00", window))
}
