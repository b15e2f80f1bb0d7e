package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire"
)

// Run brings answers until ctx ends; it is for the region's leader, and may be called again after it has returned. It
// returns an error only if the region refuses for another reason than being unavailable.
func (d *Dispatch) Run(ctx context.Context) error {
	l, err := d.Lead(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, l.hangUp)()
	g.Go(func() error { return l.outbox.run(ctx) })
	g.Go(func() error { return l.results.run(ctx) })
	g.Go(func() error { return l.roster.run(ctx, d.cfg.PollWorkers) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	return nil
}

// open reads from the state what is to be brought, and up to where results are committed.
func (d *Dispatch) open(ctx context.Context, box *inbox) (stream.ID, error) {
	retry := d.cfg.backoff(20*time.Millisecond, time.Second)
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
			return stream.ID{}, fmt.Errorf("dispatch: open answers: %w", context.Cause(ctx))
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
