package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire"
)

const (
	commandConns = 8 // commands of the outbox, the results and the list of workers at once
	readerConns  = 1
)

// Run brings answers until ctx ends; it is for the region's leader, and may be called again after it has returned. It
// returns an error only if the region refuses for another reason than being unavailable.
func (d *Dispatch) Run(ctx context.Context) error {
	box := newInbox()
	stop := d.cfg.Commits.Watch(box.watch)
	defer stop()
	pos, err := d.open(ctx, box)
	if err != nil || ctx.Err() != nil {
		return err
	}
	cmd, err := stream.Open(d.cfg.Redis, commandConns)
	if err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	defer cmd.Close()
	reader, err := stream.Open(d.cfg.Redis, readerConns)
	if err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	defer reader.Close()
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { // ends what waits for Redis
		cmd.Close()
		reader.Close()
	})()
	d.start(ctx, g, box, pos, cmd, reader)
	if err := g.Wait(); err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	return nil
}

// start joins the parts.
func (d *Dispatch) start(ctx context.Context, g *errgroup.Group, box *inbox, pos stream.ID, cmd, reader *redis.Client) {
	keys := stream.KeysOf(d.cfg.Region)
	health := &stream.Health{Log: d.cfg.Logger}
	ctl := &control{redis: cmd, key: keys.Control()}
	o := &outbox{
		cfg: &d.cfg, met: d.met, limits: limits{region: d.cfg.Region, unserved: d.cfg.UnservedAfter},
		jobs: jobs{redis: cmd, keys: keys}, control: ctl, health: health, inbox: box, sessions: map[string]*tracked{},
	}
	r := &results{
		cfg: &d.cfg, met: d.met, reader: reader, redis: cmd, key: keys.Results(), control: ctl, health: health, pos: pos,
	}
	w := &roster{redis: cmd, keys: keys, jobs: o.jobs, inbox: box, health: health, met: d.met, every: d.cfg.PollWorkers}
	g.Go(func() error { return o.run(ctx) })
	g.Go(func() error { return r.run(ctx) })
	g.Go(func() error { return w.run(ctx) })
}

// open reads from the state what is to be brought, and up to where results are committed.
func (d *Dispatch) open(ctx context.Context, box *inbox) (stream.ID, error) {
	retry := stream.Backoff{Min: 20 * time.Millisecond, Max: time.Second}
	for {
		runs, position, err := d.cfg.Commits.Open()
		if err == nil {
			for _, r := range runs {
				box.add(r.Session)
			}
			return d.position(position), nil
		}
		if !errors.Is(err, wire.ErrUnavailable) {
			return stream.ID{}, fmt.Errorf("dispatch: open answers: %w", err)
		}
		if !retry.Wait(ctx) {
			return stream.ID{}, nil
		}
	}
}

// position reads a committed position. One that is not a position is worth no more than none: what is read twice is
// known.
func (d *Dispatch) position(s string) stream.ID {
	if s == "" {
		return stream.ID{}
	}
	id, err := stream.ParseID(s)
	if err != nil {
		d.cfg.Logger.Error("committed position in results is not one; reading from the start", "err", err)
	}
	return id
}
