package dispatch

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/dispatch/internal/stream"
)

const (
	commandConns = 8 // commands of the outbox, the results and the list of workers at once
	readerConns  = 1
)

// Lead is a leader's dispatch that its owner drives, step by step: it starts no goroutine, does not wait for Redis to
// have something, and looks at no clocks but the Config's. Run is a Lead with a goroutine for each of Round, Read and
// Poll with Sweep. Those three may be called at the same time, each of them by one caller at a time.
type Lead struct {
	inbox   *inbox
	outbox  *outbox
	results *results
	roster  *roster
	cmd     *redis.Client
	reader  *redis.Client
	unwatch func()
}

// Lead reads from the region what is to be brought, and makes the clients of Redis; they connect when they are used.
// While the region is unavailable it waits, until ctx ends. Close ends the Lead.
func (d *Dispatch) Lead(ctx context.Context) (*Lead, error) {
	box := newInbox()
	unwatch := d.cfg.Commits.Watch(box.watch)
	pos, err := d.open(ctx, box)
	if err != nil {
		unwatch()
		return nil, err
	}
	cmd, err := stream.Open(d.cfg.Redis, commandConns, d.cfg.Dial)
	if err != nil {
		unwatch()
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	reader, err := stream.Open(d.cfg.Redis, readerConns, d.cfg.Dial)
	if err != nil {
		unwatch()
		cmd.Close()
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	l := &Lead{inbox: box, cmd: cmd, reader: reader, unwatch: unwatch}
	d.join(l, pos)
	return l, nil
}

// join makes the parts of a Lead.
func (d *Dispatch) join(l *Lead, pos stream.ID) {
	keys := stream.KeysOf(d.cfg.Region)
	health := &stream.Health{Log: d.cfg.Logger, Now: d.cfg.Machine}
	ctl := &control{redis: l.cmd, key: keys.Control()}
	l.outbox = &outbox{
		cfg: &d.cfg, met: d.met, limits: limits{region: d.cfg.Region, unserved: d.cfg.UnservedAfter}, group: d.cfg.label(),
		jobs: jobs{redis: l.cmd, keys: keys}, control: ctl, health: health, inbox: l.inbox, sessions: map[string]*tracked{},
	}
	l.results = &results{
		cfg: &d.cfg, met: d.met, reader: l.reader, redis: l.cmd, key: keys.Results(d.cfg.Group), control: ctl, health: health, pos: pos,
	}
	l.roster = &roster{redis: l.cmd, keys: keys, jobs: l.outbox.jobs, inbox: l.inbox, health: health, met: d.met}
}

// Pending reports whether Round has something to do before anything is due by time.
func (l *Lead) Pending() bool { return l.inbox.pending() }

// Round looks at the sessions that changed, and with all also at those that are due: it closes answers, adds jobs and
// looks for those that should have been begun. What Redis did not do is due again soon; an error is the region's, and
// for good. Run calls it with all every Config.Tick, and when something is Pending.
func (l *Lead) Round(ctx context.Context, all bool) error { return l.outbox.round(ctx, all) }

// Read commits the results that are there, up to maxRead, tells the workers, and returns how many there were. After an
// error that wraps ErrRedis it may be called again; another one is the region's, and for good.
func (l *Lead) Read(ctx context.Context) (n int, err error) {
	return l.results.read(ctx, stream.NoWait)
}

// Poll finds out which workers are there; the next Round heeds it. Run calls it every Config.PollWorkers.
func (l *Lead) Poll(ctx context.Context) { l.roster.poll(ctx) }

// Sweep removes what workers that are gone left in Redis. Run calls it every SweepEvery.
func (l *Lead) Sweep(ctx context.Context) { l.roster.sweep(ctx) }

// Close ends the Lead. No call may be under way, nor come later.
func (l *Lead) Close() {
	l.unwatch()
	l.hangUp()
	l.outbox.met.none(l.outbox.group)
}

// hangUp ends what waits for Redis.
func (l *Lead) hangUp() {
	l.cmd.Close()
	l.reader.Close()
}
