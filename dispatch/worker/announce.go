package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/dispatch/internal/stream"
)

// announceTTL is how long a worker counts as alive after it has said so.
const announceTTL = 10 * time.Second

// announce shows that the worker lives until ctx ends.
func (s *session) announce(ctx context.Context) {
	beat := time.NewTicker(s.cfg.Announce)
	defer beat.Stop()
	retry := s.cfg.backoff(100*time.Millisecond, s.cfg.Announce)
	for {
		select {
		case <-ctx.Done():
			s.retire()
			return
		case <-beat.C:
		case <-s.renew:
		}
		if s.announceOnce(ctx) != nil {
			if retry.Wait(ctx) {
				s.again()
			}
			continue
		}
		retry.Reset()
	}
}

// announceOnce shows that the worker lives.
func (s *session) announceOnce(ctx context.Context) error {
	err := s.show(ctx)
	if err != nil {
		s.failed(ctx, "announce", err)
		return err
	}
	s.health.OK()
	return nil
}

// again has the announcement made again soon.
func (s *session) again() {
	select {
	case s.renew <- struct{}{}:
	default:
	}
}

// show announces the worker and what it serves.
func (s *session) show(ctx context.Context) error {
	pipe := s.redis.Pipeline()
	pipe.Set(ctx, s.keys.Worker(s.name), strings.Join(s.cfg.Models, "\n"), announceTTL)
	pipe.SAdd(ctx, s.keys.Workers(), s.name)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

const (
	// leaveTimeout bounds the good-bye; without it the worker counts as dead soon, and its jobs are added again.
	leaveTimeout = time.Second
	// maxLeave bounds the jobs that are given back by name; the leader misses the others later.
	maxLeave = 1000
)

// retire takes the worker off the list, so that nothing waits for it.
func (s *session) retire() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	pipe := s.redis.Pipeline()
	pipe.Del(ctx, s.keys.Worker(s.name))
	pipe.SRem(ctx, s.keys.Workers(), s.name)
	if _, err := pipe.Exec(ctx); err != nil {
		s.cfg.Logger.Info("worker left without a good-bye", "err", err)
	}
}

// giveBack returns jobs that were taken and not begun: their entries go, which the leader notices.
func (s *session) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	pipe := s.redis.Pipeline()
	held := make([]*redis.XPendingExtCmd, len(s.streams))
	for i, key := range s.streams {
		held[i] = pipe.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: key, Group: stream.Group, Start: "-", End: "+", Count: maxLeave, Consumer: s.name,
		})
	}
	if _, err := pipe.Exec(ctx); err == nil || stream.Refusal(err) {
		pipe = s.redis.Pipeline()
		for i, key := range s.streams {
			for _, p := range held[i].Val() {
				pipe.XAck(ctx, key, stream.Group, p.ID)
				pipe.XDel(ctx, key, p.ID)
			}
			pipe.XGroupDelConsumer(ctx, key, stream.Group, s.name)
		}
		_, err = pipe.Exec(ctx)
		if err != nil && !stream.Refusal(err) {
			s.cfg.Logger.Info("worker left without giving its jobs back", "err", err)
		}
	}
}
