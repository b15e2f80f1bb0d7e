package dispatch

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/workpb"
)

// planned is one answer that something is to be done about.
type planned struct {
	session string
	track   *tracked
	job     *job
	slot    *crdt.Slot
	msg     *workpb.Job // to be added
	close   *crdt.Op    // to be committed
	why     string      // of close: a metric's label
}

// plan is what one round does.
type plan struct {
	now   moment
	group uint32 // whose leader it is of
	bytes int    // about the size of adds

	closes, adds, checks []planned
	drops                []entry
	tells                []*workpb.Reply // to workers whose attempts are no more
}

// Why the leader closes an answer itself.
const (
	closedStopped  = "stopped"
	closedUnserved = "unserved"
)

// join takes over what another plan does.
func (p *plan) join(o *plan) {
	p.bytes += o.bytes
	p.closes, p.adds, p.checks = append(p.closes, o.closes...), append(p.adds, o.adds...), append(p.checks, o.checks...)
	p.drops, p.tells = append(p.drops, o.drops...), append(p.tells, o.tells...)
}

// lose notes what is to be done about an answer that was ours to bring, if it is not any more: it was removed, or another region has taken it
// over. Nobody is to take its job then, and who is at it can stop.
func (p *plan) lose(st crdt.Store, region, run string, j *job) {
	s, held := crdt.ReadSlot(st, run)
	if held && s.Home() == region {
		return
	}
	if j.id != "" {
		p.drops = append(p.drops, entry{j.stream, j.id})
	}
	if held && j.nonce != "" {
		lost := crdt.Held{Verdict: crdt.Superseded, Attempt: s.Attempt, Len: s.Len, Stop: true}
		p.tells = append(p.tells, reply(&crdt.Op{Kind: crdt.KindChunk, Run: run}, j.nonce, lost))
	}
}

// add notes a decision.
func (p *plan) add(d decision, a planned, st crdt.Store) {
	switch d.do {
	case wait:
		a.track.by(d.at)
	case enqueue:
		a.msg = jobMessage(st, a.session, a.slot)
		a.msg.Group = p.group
		p.bytes += proto.Size(a.msg)
		p.adds = append(p.adds, a)
	case check:
		p.checks = append(p.checks, a)
	case closeStopped:
		a.why = closedStopped
		a.close = &crdt.Op{Kind: crdt.KindDone, Session: a.session, Run: a.slot.OID, State: crdt.RunStopped, Fin: a.slot.StopFin()}
		p.closes = append(p.closes, a)
	case closeFailed:
		a.why = closedUnserved
		a.close = &crdt.Op{
			Kind: crdt.KindDone, Session: a.session, Run: a.slot.OID, State: crdt.RunFailed, Fin: "error",
			Err: fmt.Sprintf("no worker serves model %q", a.slot.Asked),
		}
		p.closes = append(p.closes, a)
	}
}

// perform does what was planned. What could not be done is due again soon; only a region that is broken is an error.
func (o *outbox) perform(ctx context.Context, p *plan) error {
	if err := o.close(ctx, p); err != nil {
		return err
	}
	o.enqueue(ctx, p)
	o.check(ctx, p)
	if err := o.control.send(ctx, p.tells); err != nil { // they learn it from their next report
		o.failed(ctx, "control", err)
	}
	if len(p.drops) > 0 {
		if err := o.jobs.drop(ctx, p.drops); err != nil { // the sweep finds them
			o.failed(ctx, "drop", err)
		}
	}
	return nil
}

// close ends answers in the state, then tells the workers that are still at it.
func (o *outbox) close(ctx context.Context, p *plan) error {
	if len(p.closes) == 0 {
		return nil
	}
	ops := make([]*crdt.Op, len(p.closes))
	for i, a := range p.closes {
		ops[i] = a.close
		a.track.by(p.now.Add(retryAfter))
	}
	held, err := o.cfg.Commits.Answer(ctx, ops, "")
	switch {
	case ctx.Err() != nil || errors.Is(err, wire.ErrUnavailable):
		return nil
	case err != nil:
		return fmt.Errorf("close answers: %w", err)
	case len(held) != len(ops):
		return fmt.Errorf("close answers: %d results for %d ops", len(held), len(ops))
	}
	var tell []*workpb.Reply
	for i, a := range p.closes {
		if held[i].Verdict == crdt.Accepted {
			o.met.closed.WithLabelValues(a.why).Inc()
		}
		if a.slot.State == crdt.RunRunning && (held[i].Verdict == crdt.Accepted || held[i].Verdict == crdt.Closed) {
			held[i].Verdict = crdt.Closed
			tell = append(tell, reply(a.close, a.slot.Nonce, held[i]))
		} else if a.job.id != "" {
			p.drops = append(p.drops, entry{a.job.stream, a.job.id})
		}
	}
	if err := o.control.send(ctx, tell); err != nil { // they learn it from their next report
		o.failed(ctx, "control", err)
	}
	return nil
}

// enqueue adds jobs, in the place of those that were lost.
func (o *outbox) enqueue(ctx context.Context, p *plan) {
	if len(p.adds) == 0 {
		return
	}
	msgs := make([]*workpb.Job, len(p.adds))
	for i, a := range p.adds {
		msgs[i] = a.msg
	}
	spans := o.enqueueing(p.adds)
	at, err := o.jobs.add(ctx, msgs)
	endSpans(spans, err)
	if err != nil {
		o.failed(ctx, "enqueue", err)
	}
	for i, a := range p.adds {
		if at[i].id == "" {
			a.track.by(p.now.Add(retryAfter))
			continue
		}
		if a.job.lost != "" {
			p.drops = append(p.drops, entry{a.job.stream, a.job.id})
		}
		o.met.jobs.WithLabelValues(reasonFor(a)).Inc()
		*a.job = job{stream: at[i].stream, id: at[i].id, checkAt: p.now.Add(o.cfg.CheckAfter)}
		a.track.by(a.job.checkAt)
	}
}

func reasonFor(a planned) string {
	switch {
	case a.job.lost != "":
		return a.job.lost
	case a.slot.State == crdt.RunRunning:
		return jobExpired
	}
	return jobNew
}

// check looks for jobs that should have been begun by now.
func (o *outbox) check(ctx context.Context, p *plan) {
	if len(p.checks) == 0 {
		return
	}
	of := make([]entry, len(p.checks))
	for i, a := range p.checks {
		of[i] = entry{a.job.stream, a.job.id}
	}
	all, err := o.jobs.find(ctx, of)
	if err != nil {
		o.failed(ctx, "check", err)
	}
	for i, a := range p.checks {
		if err != nil {
			a.track.by(p.now.Add(retryAfter))
			continue
		}
		a.job.checkAt = p.now.Add(o.cfg.CheckAfter)
		if a.job.lost = all[i].judge(o.cfg.StaleAfter); a.job.lost != "" {
			a.track.by(p.now.Time)
			o.inbox.add(a.session)
			continue
		}
		a.track.by(a.job.checkAt)
	}
}
