package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/workpb"
)

const (
	// maxRead bounds the entries of one read.
	maxRead = 256
	// trimEvery is how many committed reports are left in Redis before they are removed.
	trimEvery = 128
	// maxCommitBytes bounds, about, the text of one commit; a read with more becomes several.
	maxCommitBytes = 256 << 10
)

// ErrRedis marks a failure of Redis, after which the same may be tried again.
var ErrRedis = errors.New("redis failed")

// results commits what workers report. All is owned by who calls read.
type results struct {
	cfg     *Config
	met     *metrics
	reader  *redis.Client // for blocked reads only
	redis   *redis.Client
	key     string
	control *control
	health  *stream.Health

	pos       stream.ID // committed
	untrimmed int       // reports committed since the stream was last trimmed
}

// run reads and commits until ctx ends, or the region refuses for good.
func (r *results) run(ctx context.Context) error {
	retry := r.cfg.backoff(50*time.Millisecond, 2*time.Second)
	for ctx.Err() == nil {
		switch _, err := r.read(ctx, r.cfg.Block); {
		case err == nil:
			retry.Reset()
		case ctx.Err() != nil:
		case errors.Is(err, ErrRedis):
			retry.Wait(ctx)
		default:
			return err
		}
	}
	return nil
}

// read waits for entries up to block, and commits those that came. It returns how many.
func (r *results) read(ctx context.Context, block time.Duration) (int, error) {
	entries, err := stream.Read(ctx, r.reader, r.key, r.pos.String(), maxRead, block)
	if err == nil && len(entries) == 0 {
		err = r.rewind(ctx)
	}
	if err != nil {
		r.failed(ctx, "read results", err)
		return 0, fmt.Errorf("%w: %w", ErrRedis, err)
	}
	r.health.OK()
	return len(entries), r.take(ctx, entries)
}

func (r *results) failed(ctx context.Context, op string, err error) {
	if ctx.Err() == nil {
		r.met.failures.WithLabelValues(op).Inc()
		r.health.Failed(ctx, op, err)
	}
}

// rewind starts from the beginning if Redis lost the stream and its successor has not come as far. The next commit
// brings the smaller position; until then a restart finds the same.
func (r *results) rewind(ctx context.Context) error {
	yes, err := stream.Rewound(ctx, r.redis, r.key, r.pos)
	if err == nil && yes {
		r.cfg.Logger.Warn("the results stream has started again; reading it from its start", "position", r.pos.String())
		r.met.rewinds.Inc()
		r.pos = stream.ID{}
	}
	return err
}

// batch is what is committed at once.
type batch struct {
	reports []*workpb.Report
	bytes   int
	last    stream.ID
}

func (b *batch) ops() []*crdt.Op {
	ops := make([]*crdt.Op, len(b.reports))
	for i, rep := range b.reports {
		ops[i], _ = op(rep) // it was read before
	}
	return ops
}

// take commits entries in their order. Malformed ones are counted and passed over.
func (r *results) take(ctx context.Context, entries []redis.XMessage) error {
	b := batch{last: r.pos}
	for _, e := range entries {
		id, err := stream.ParseID(e.ID)
		if err != nil {
			return fmt.Errorf("results: %w", err)
		}
		b.last = id
		rep, err := report(e)
		if err != nil {
			r.met.malformed.Inc()
			r.cfg.Logger.Warn("result passed over", "id", e.ID, "err", err)
			continue
		}
		b.reports, b.bytes = append(b.reports, rep), b.bytes+len(rep.GetChunk().GetText())
		if b.bytes >= maxCommitBytes {
			if err := r.commit(ctx, &b); err != nil {
				return err
			}
			b = batch{last: id}
		}
	}
	if b.last == r.pos {
		return nil
	}
	return r.commit(ctx, &b)
}

func report(e redis.XMessage) (*workpb.Report, error) {
	rep := &workpb.Report{}
	if err := stream.Decode(e, rep); err != nil {
		return nil, err
	}
	_, err := op(rep)
	return rep, err
}

// commit brings a batch into the state with the position after it, then tells the workers what is held.
func (r *results) commit(ctx context.Context, b *batch) error {
	ops, held, err := r.answer(ctx, b)
	if err != nil {
		return err
	}
	r.pos = b.last
	replies := make([]*workpb.Reply, len(ops))
	for i, o := range ops {
		replies[i] = reply(o, b.reports[i].Nonce, held[i])
		r.met.reports.WithLabelValues(replies[i].Verdict.String()).Inc()
	}
	if err := r.control.send(ctx, latest(replies)); err != nil {
		r.failed(ctx, "control", err)
	}
	if r.untrimmed += len(ops); r.untrimmed >= trimEvery {
		r.trim(ctx)
	}
	return nil
}

// trim removes what is committed, and nothing after it. Redis removes a hundred entries or none.
func (r *results) trim(ctx context.Context) {
	r.untrimmed = 0
	if err := r.redis.XTrimMinIDApprox(ctx, r.key, r.pos.String(), 0).Err(); err != nil {
		r.failed(ctx, "trim", err)
	}
}

// answer commits until the region does. After an error it is not known whether it did, and the same reports again
// come out as known.
func (r *results) answer(ctx context.Context, b *batch) ([]*crdt.Op, []crdt.Held, error) {
	retry := r.cfg.backoff(20*time.Millisecond, time.Second)
	for {
		ops := b.ops()
		held, err := r.cfg.Commits.Answer(ctx, ops, b.last.String())
		switch {
		case err == nil && len(held) != len(ops):
			return nil, nil, fmt.Errorf("commit results: %d results for %d reports", len(held), len(ops))
		case err == nil:
			return ops, held, nil
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case !errors.Is(err, wire.ErrUnavailable):
			return nil, nil, fmt.Errorf("commit results: %w", err)
		}
		r.cfg.Logger.Debug("results not committed; trying again", "err", err)
		if !retry.Wait(ctx) {
			return nil, nil, ctx.Err()
		}
	}
}
