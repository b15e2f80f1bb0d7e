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
	// linger is how long the next entry waits for more proposals, where the last one had lingerFrom of them and fewer than lingerBelow wait:
	// under some load a few more in each entry save most of what an entry costs. A put that is alone does not wait.
	linger      = 600 * time.Microsecond
	lingerFrom  = 2
	lingerBelow = 128
	// bulkOps is from how many ops a proposal on what an entry counts as bulk: what another region sends that is behind comes in pieces, of which each
	// is worth an entry. It does not linger.
	bulkOps = 16
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

// until is when its time is over.
func (p *proposal) until(deadline time.Duration) time.Time { return p.since.Add(deadline) }

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
	g := r.of(crdt.PartitionOf(p.Session))
	if g == nil {
		return errUnknown
	}
	if err := g.full(); err != nil {
		return err
	}
	c := &machine.Command{
		Kind: machine.KindPut, Session: p.Session, Floor: p.Floor, Ops: p.Ops, Tag: p.Tag, Entry: r.entry,
	}
	next := &proposal{cmd: c, since: time.Now(), fail: p.Fail, spans: r.proposing(p.Ops)}
	select {
	case g.queue <- next:
		return nil
	default:
		next.spans.end(wire.ErrUnavailable)
		r.metrics.refused.WithLabelValues("queue_full").Inc()
		return fmt.Errorf("%d puts wait already: %w", queueLength, wire.ErrUnavailable)
	}
}

// answer is Commits.Answer. Of sessions of other groups this one knows nothing. While the disk is nearly full it waits, as long as a commit may.
func (g *group) answer(ctx context.Context, ops []*crdt.Op, position string) ([]crdt.Held, error) {
	held := make([]crdt.Held, len(ops))
	var own []*crdt.Op
	var at []int
	for i, op := range ops {
		if g.mask&(1<<crdt.PartitionOf(op.Session)) == 0 {
			held[i].Verdict = crdt.Unknown
			continue
		}
		own, at = append(own, op), append(at, i)
	}
	if err := g.r.space.awaitFor(ctx, g.r.cfg.CommitDeadline); err != nil {
		return held, err
	}
	res, err := g.do(ctx, &machine.Command{Kind: machine.KindAnswer, Ops: own, Position: position})
	for i, h := range res.Held {
		held[at[i]] = h
	}
	return held, err
}

// Ingest commits records of another origin's feed and returns its cursor then. Fewer than all may have been taken,
// without an error: those whose causes are not here are to come again. While the disk is nearly full it waits.
func (r *Region) Ingest(ctx context.Context, rs wire.Records) (uint64, error) {
	g := r.of(rs.Partition)
	if g == nil {
		return 0, errUnknown
	}
	if err := r.space.await(ctx); err != nil {
		return 0, err
	}
	res, err := g.do(ctx, &machine.Command{Kind: machine.KindIngest, Records: g.fsm.Ripe(rs)})
	return res.Cursor, err
}

// AddPeer commits that another region was met, in the first group.
func (r *Region) AddPeer(ctx context.Context, name string) error {
	g := r.of(0)
	if g == nil {
		return errUnknown
	}
	_, err := g.do(ctx, &machine.Command{Kind: machine.KindPeer, Peer: name})
	return err
}

// Renew has the group that issues as lost, which has failed, go on under a new incarnation, unless that has happened
// already. The new one is later than the lost one, and than above, whatever the clock shows.
func (r *Region) Renew(ctx context.Context, lost crdt.Origin, above uint64, why string) error {
	for _, g := range r.all() {
		if lost == "" && g.fsm.Fenced() && g.fsm.Settled() && g.fsm.Beyond() == 0 && g.leading.Load() {
			return g.renew(ctx, lost, max(above, r.givenUp()), why)
		}
		if lost == "" || g.fsm.Self() != lost {
			continue
		}
		r.cfg.Logger.Error("this region has lost ops that others hold, and goes on under a new incarnation", "lost", lost,
			"group", g.n, "why", why)
		r.metrics.renewed.Inc()
		return g.renew(ctx, lost, above, why)
	}
	return nil
}

// givenUp is the last incarnation of this region that was given up, as far as any of its groups knows: the others hear that from another group, and one that
// comes back below it would have to end once more.
func (r *Region) givenUp() (bound uint64) {
	for _, g := range r.all() {
		bound = max(bound, g.fsm.Evictions()[r.cfg.Region].Bound)
	}
	return bound
}

func (g *group) renew(ctx context.Context, lost crdt.Origin, above uint64, why string) error {
	c, err := g.renewal(lost, above)
	if err == nil {
		_, err = g.do(ctx, c)
	}
	if err == nil {
		g.r.cfg.Logger.Info("new incarnation", "group", g.n, "origin", g.fsm.Self(), "why", why)
	}
	return err
}

// renewal is the command for a new incarnation, which is later than the lost one and than above.
func (g *group) renewal(lost crdt.Origin, above uint64) (*machine.Command, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	// Seconds and randomness, so that neither a bad clock nor a bad source alone repeats a name.
	inc := crdt.NextIncarnation(g.r.cfg.Now(), binary.BigEndian.Uint32(b[:]), max(lost.Incarnation(), above))
	return &machine.Command{Kind: machine.KindRenew, Lost: lost, Next: crdt.NewOrigin(g.r.cfg.Region, inc)}, nil
}

// renewFirst commits a new incarnation past the queue, and reports whether that is done: nothing that waits there may be numbered under the old one.
func (g *group) renewFirst(ctx context.Context, why string) (done bool, err error) {
	c, err := g.renewal(g.fsm.Self(), 0)
	if err != nil {
		return false, err
	}
	if err := g.raft.Apply(machine.EncodeEntryOf(g.r.level(), [][]byte{c.Encode()}), g.r.cfg.CommitDeadline).Error(); err == nil {
		g.r.metrics.begun.Inc()
		g.r.cfg.Logger.Info("new incarnation", "group", g.n, "origin", g.fsm.Self(), "why", why)
		return true, nil
	}
	select { // the leadership may be over, which ends ctx
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(retryPause):
		return false, nil
	}
}

// do proposes a command and waits for its result.
func (g *group) do(ctx context.Context, c *machine.Command) (machine.Result, error) {
	if !g.leading.Load() {
		return machine.Result{}, errNotLeader
	}
	if level := g.r.level(); c.Level() > level && !c.Raises() {
		return machine.Result{}, fmt.Errorf("it needs feature level %d, and the region is at %d: it rises when all nodes run the newer version", c.Level(), level)
	}
	done := make(chan machine.Result, 1)
	next := &proposal{cmd: c, since: time.Now(), done: done, spans: g.r.proposing(c.Ops)}
	select {
	case g.queue <- next:
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
func (g *group) propose(ctx context.Context) error {
	var clock crdt.Clock
	for last := 0; ; {
		batch, ops := g.fill(ctx, last)
		if batch == nil {
			g.refuseRest()
			return nil
		}
		g.commit(ctx, &clock, batch)
		if last = len(batch); ops >= bulkOps*last {
			last = 0
		}
	}
}

// fill waits for a proposal and takes what else is there, or comes within a moment. last is how many the last entry had, 0 after bulk.
func (g *group) fill(ctx context.Context, last int) (batch []*proposal, ops int) {
	select {
	case p := <-g.queue:
		batch = append(batch, p)
	case <-ctx.Done():
		return nil, 0
	}
	if last >= lingerFrom && len(g.queue) < lingerBelow {
		select {
		case <-time.After(linger):
		case <-ctx.Done(): // what was taken is committed or refused with the rest
		}
	}
	ops, bytes := batch[0].cmd.Size()
	for ops < batchOps && bytes < batchBytes {
		select {
		case p := <-g.queue:
			o, b := p.cmd.Size()
			batch, ops, bytes = append(batch, p), ops+o, bytes+b
		default:
			return batch, ops
		}
	}
	return batch, ops
}

// commit tries a batch until it is applied, or the time of all that is in it is over. Trying again is safe: puts are known by their oids,
// records by their numbers, reports by their offsets.
func (g *group) commit(ctx context.Context, clock *crdt.Clock, batch []*proposal) {
	g.observe(batch)
	start := time.Now()
	for {
		res, err := g.try(ctx, clock, batch)
		if err == nil {
			g.r.metrics.commit.Observe(time.Since(start).Seconds())
			for i, p := range batch {
				p.end(res[i])
			}
			g.nudge()
			return
		}
		if batch = g.rest(ctx, batch, err); len(batch) == 0 {
			return
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// rest refuses what is not to be tried again after an error, and returns what is. Proposals that share a batch do not share their time:
// one that has waited long must not take those with it that have only come.
func (g *group) rest(ctx context.Context, batch []*proposal, err error) (again []*proposal) {
	if ctx.Err() != nil {
		err = errStopping
	}
	hopeless := errors.Is(err, errStopping) || errors.Is(err, errBroken) || errors.Is(err, errFull)
	now := time.Now()
	for _, p := range batch {
		if !hopeless && now.Before(p.until(g.r.cfg.CommitDeadline)) {
			again = append(again, p)
			continue
		}
		p.end(machine.Result{Err: fmt.Errorf("%w: %w", wire.ErrUnavailable, err)})
		g.r.metrics.refused.WithLabelValues(refusal(err)).Inc()
	}
	return again
}

// refusal is the reason that is counted for puts that were not committed.
func refusal(err error) string {
	switch {
	case errors.Is(err, errFull):
		return "no_space"
	case errors.Is(err, errStopping):
		return "stopping"
	}
	return "deadline"
}

// nudge tells the other nodes at once that the last entry is committed. Raft says so with the next entry, or else after
// commitTimeout: if nothing waits to be the next one, an empty one is.
func (g *group) nudge() {
	if g.leading.Load() && len(g.queue) == 0 && len(g.servers()) > 1 {
		g.raft.Apply(nil, g.r.cfg.CommitDeadline)
	}
}

var (
	errBroken   = errors.New("the node has stopped applying")
	errStopping = errors.New("the node is stopping")
)

// try takes a batch through Raft once, here or at the leader.
func (g *group) try(ctx context.Context, clock *crdt.Clock, batch []*proposal) ([]machine.Result, error) {
	if !g.leads() {
		return g.forward(ctx, batch)
	}
	clock.Observe(g.fsm.Stamp())
	level := g.r.level()
	cmds := make([][]byte, len(batch))
	for i, p := range batch {
		p.cmd.Stamp(clock, g.r.cfg.Now())
		cmds[i], level = p.cmd.Encode(), max(level, p.cmd.Level())
	}
	f := g.raft.Apply(machine.EncodeEntryOf(level, cmds), g.r.cfg.CommitDeadline)
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
func (g *group) refuseRest() {
	for {
		select {
		case p := <-g.queue:
			p.end(machine.Result{Err: fmt.Errorf("%w: %w", wire.ErrUnavailable, errStopping)})
		default:
			return
		}
	}
}
