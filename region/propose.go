package region

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

const (
	// queueLength bounds the proposals that wait; when it is full Submit refuses, others wait for their context.
	queueLength = 8192
	// batchOps and batchBytes bound what one Raft entry holds.
	batchOps   = 1024
	batchBytes = 1 << 20
	// retryPause is the time between tries of an entry whose fate is unknown.
	retryPause = 20 * time.Millisecond
)

// proposal is a command on its way.
type proposal struct {
	cmd   *machine.Command
	since time.Time
	done  chan<- machine.Result // nil for puts
	fail  func(error)           // puts only
	spans spans
}

func (p *proposal) end(res machine.Result) {
	p.spans.end(res.Err)
	switch {
	case p.done != nil:
		p.done <- res
	case res.Err != nil && p.fail != nil:
		p.fail(res.Err)
	}
}

// Submit takes a put for its turn: the order of Submit is the order of the log. The put's Event, or its Fail, tells
// what became of it. Submit does not wait: a full queue is wire.ErrUnavailable.
func (r *Region) Submit(p *wire.Put) error {
	c := &machine.Command{
		Kind: machine.KindPut, Session: p.Session, Floor: p.Floor, Ops: p.Ops, Tag: p.Tag, Entry: r.entry,
	}
	next := &proposal{cmd: c, since: time.Now(), fail: p.Fail, spans: r.proposing(p.Ops)}
	select {
	case r.queue <- next:
		return nil
	default:
		next.spans.end(wire.ErrUnavailable)
		r.metrics.refused.WithLabelValues("queue_full").Inc()
		return fmt.Errorf("%d puts wait already: %w", queueLength, wire.ErrUnavailable)
	}
}

// Answer commits workers' reports, and with them the position in the results stream up to which they were read.
func (r *Region) Answer(ctx context.Context, ops []*crdt.Op, position string) ([]crdt.Held, error) {
	res, err := r.do(ctx, &machine.Command{Kind: machine.KindAnswer, Ops: ops, Position: position})
	return res.Held, err
}

// Ingest commits records of another origin's feed and returns its cursor then. Fewer than all may have been taken,
// without an error: those whose causes are not here are to come again.
func (r *Region) Ingest(ctx context.Context, rs wire.Records) (uint64, error) {
	res, err := r.do(ctx, &machine.Command{Kind: machine.KindIngest, Records: rs})
	return res.Cursor, err
}

// AddPeer commits that another region was met.
func (r *Region) AddPeer(ctx context.Context, name string) error {
	_, err := r.do(ctx, &machine.Command{Kind: machine.KindPeer, Peer: name})
	return err
}

// Renew goes on under a new incarnation, unless that has happened already: lost names the one that has failed.
func (r *Region) Renew(ctx context.Context, lost crdt.Origin, why string) error {
	if lost == "" || r.Self() != lost {
		return nil
	}
	r.cfg.Logger.Error("this region has lost ops that others hold, and goes on under a new incarnation", "lost", lost, "why", why)
	r.metrics.renewed.Inc()
	return r.renew(ctx, lost, why)
}

func (r *Region) renew(ctx context.Context, lost crdt.Origin, why string) error {
	c, err := r.renewal(lost)
	if err == nil {
		_, err = r.do(ctx, c)
	}
	if err == nil {
		r.cfg.Logger.Info("new incarnation", "origin", r.Self(), "why", why)
	}
	return err
}

// renewal is the command for a new incarnation.
func (r *Region) renewal(lost crdt.Origin) (*machine.Command, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	// Seconds and randomness, so that neither a bad clock nor a bad source alone repeats a name.
	inc := uint64(r.cfg.Now().Unix())<<32 | uint64(binary.BigEndian.Uint32(b[:]))
	return &machine.Command{Kind: machine.KindRenew, Lost: lost, Next: crdt.NewOrigin(r.cfg.Region, inc)}, nil
}

// renewFirst commits a new incarnation past the queue: nothing that waits there may be numbered under the old one.
func (r *Region) renewFirst(ctx context.Context, why string) error {
	c, err := r.renewal(r.Self())
	if err != nil {
		return err
	}
	if err := r.raft.Apply(machine.EncodeEntry([][]byte{c.Encode()}), r.cfg.CommitDeadline).Error(); err == nil {
		r.proven = true
		r.cfg.Logger.Info("new incarnation", "origin", r.Self(), "why", why)
		return nil
	}
	select { // the leadership may be over, which ends ctx
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(retryPause):
		return nil
	}
}

// do proposes a command and waits for its result.
func (r *Region) do(ctx context.Context, c *machine.Command) (machine.Result, error) {
	if !r.leading.Load() {
		return machine.Result{}, errNotLeader
	}
	done := make(chan machine.Result, 1)
	next := &proposal{cmd: c, since: time.Now(), done: done, spans: r.proposing(c.Ops)}
	select {
	case r.queue <- next:
	case <-ctx.Done():
		next.spans.end(ctx.Err())
		return machine.Result{}, ctx.Err()
	}
	select {
	case res := <-done:
		return res, res.Err
	case <-ctx.Done():
		return machine.Result{}, ctx.Err()
	}
}

// propose is group commit: while one entry is being committed the next one fills. It alone stamps, so that stamps
// grow in the order of the log.
func (r *Region) propose(ctx context.Context) error {
	var clock crdt.Clock
	for {
		batch := r.fill(ctx)
		if batch == nil {
			r.refuseRest()
			return nil
		}
		r.commit(ctx, &clock, batch)
	}
}

// fill waits for a proposal and takes what else is there.
func (r *Region) fill(ctx context.Context) []*proposal {
	var batch []*proposal
	select {
	case p := <-r.queue:
		batch = append(batch, p)
	case <-ctx.Done():
		return nil
	}
	ops, bytes := batch[0].cmd.Size()
	for ops < batchOps && bytes < batchBytes {
		select {
		case p := <-r.queue:
			o, b := p.cmd.Size()
			batch, ops, bytes = append(batch, p), ops+o, bytes+b
		default:
			return batch
		}
	}
	return batch
}

// commit tries a batch until it is applied or its time is over. Trying again is safe: puts are known by their oids,
// records by their numbers, reports by their offsets.
func (r *Region) commit(ctx context.Context, clock *crdt.Clock, batch []*proposal) {
	r.observe(batch)
	start := time.Now()
	for {
		res, err := r.try(ctx, clock, batch)
		if err == nil {
			r.metrics.commit.Observe(time.Since(start).Seconds())
			for i, p := range batch {
				p.end(res[i])
			}
			r.nudge()
			return
		}
		if ctx.Err() != nil || time.Since(batch[0].since) > r.cfg.CommitDeadline || errors.Is(err, errBroken) {
			for _, p := range batch {
				p.end(machine.Result{Err: fmt.Errorf("%w: %w", wire.ErrUnavailable, err)})
			}
			r.metrics.refused.WithLabelValues("deadline").Add(float64(len(batch)))
			return
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// nudge tells the other nodes at once that the last entry is committed. Raft says so with the next entry, or else after
// commitTimeout: if nothing waits to be the next one, an empty one is.
func (r *Region) nudge() {
	if r.cfg.Expect > 1 && r.leading.Load() && len(r.queue) == 0 {
		r.raft.Apply(nil, r.cfg.CommitDeadline)
	}
}

var errBroken = errors.New("the node has stopped applying")

// try takes a batch through Raft once, here or at the leader.
func (r *Region) try(ctx context.Context, clock *crdt.Clock, batch []*proposal) ([]machine.Result, error) {
	if !r.leading.Load() {
		return r.forward(ctx, batch)
	}
	clock.Observe(r.fsm.Stamp())
	cmds := make([][]byte, len(batch))
	for i, p := range batch {
		p.cmd.Stamp(clock, r.cfg.Now())
		cmds[i] = p.cmd.Encode()
	}
	f := r.raft.Apply(machine.EncodeEntry(cmds), r.cfg.CommitDeadline)
	if err := f.Error(); err != nil {
		return nil, err
	}
	switch res := f.Response().(type) {
	case []machine.Result:
		return res, nil
	case error:
		return nil, fmt.Errorf("%w: %w", errBroken, res)
	}
	return nil, errBroken
}

// refuseRest ends what still waits when the node stops.
func (r *Region) refuseRest() {
	for {
		select {
		case p := <-r.queue:
			p.end(machine.Result{Err: fmt.Errorf("the node is stopping: %w", wire.ErrUnavailable)})
		default:
			return
		}
	}
}
