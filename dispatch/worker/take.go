package worker

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire/workpb"
)

// delivery is a job as it was taken.
type delivery struct {
	stream, id string
	job        *workpb.Job
}

// maxTake bounds the jobs of one read.
const maxTake = 64

// take takes jobs, never more than can be worked on at once, until ctx ends.
func (s *session) take(ctx context.Context, start func(*delivery)) {
	retry := s.cfg.backoff(50*time.Millisecond, 2*time.Second)
	for {
		free := s.reserve(ctx)
		if free == 0 {
			return
		}
		jobs, err := s.fetch(ctx, free, s.cfg.Block)
		for _, j := range jobs {
			start(j)
		}
		s.release(free - len(jobs))
		if err == nil {
			retry.Reset()
		} else if !retry.Wait(ctx) {
			return
		}
	}
}

// fetch waits up to block for jobs, and makes the groups again if they are gone: then there are none this time.
func (s *session) fetch(ctx context.Context, free int, block time.Duration) ([]*delivery, error) {
	jobs, err := s.read(ctx, s.turn, free, block)
	s.turn++
	if err == nil {
		s.health.OK()
	} else {
		err = s.repair(ctx, err)
	}
	return jobs, err
}

// reserve waits for a free place, and takes those that are free besides; 0 if ctx has ended.
func (s *session) reserve(ctx context.Context) int {
	select {
	case <-ctx.Done():
		return 0
	case s.slots <- struct{}{}:
	}
	for n := 1; n < maxTake; n++ {
		select {
		case s.slots <- struct{}{}:
		default:
			return n
		}
	}
	return maxTake
}

func (s *session) release(n int) {
	for range n {
		<-s.slots
	}
}

// read waits for jobs. Redis counts by stream, so with fewer places than streams it looks at some of them, others the
// next time, and waits less.
func (s *session) read(ctx context.Context, turn, free int, block time.Duration) ([]*delivery, error) {
	keys := s.streams
	if free < len(keys) {
		at := turn * free % len(keys)
		keys = append(append([]string{}, keys[at:]...), keys[:at]...)[:free]
		block = min(block, 100*time.Millisecond)
	}
	args := &redis.XReadGroupArgs{
		Group: stream.Group, Consumer: s.name, Streams: append([]string{}, keys...), Count: int64(free / len(keys)), Block: block,
	}
	for range keys {
		args.Streams = append(args.Streams, ">")
	}
	got, err := s.jobs.XReadGroup(ctx, args).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	var jobs []*delivery
	for _, st := range got {
		for _, e := range st.Messages {
			if d := s.delivery(ctx, st.Stream, e); d != nil {
				jobs = append(jobs, d)
			}
		}
	}
	return jobs, err
}

// delivery reads a job; one that cannot be read is removed, so that it does not come back.
func (s *session) delivery(ctx context.Context, key string, e redis.XMessage) *delivery {
	d := &delivery{stream: key, id: e.ID, job: &workpb.Job{}}
	err := stream.Decode(e, d.job)
	if err == nil && d.job.Run != "" && d.job.Session != "" {
		return d
	}
	s.met.jobs.WithLabelValues(jobMalformed).Inc()
	s.cfg.Logger.Warn("job passed over", "stream", key, "id", e.ID, "err", err)
	s.ack(ctx, d)
	return nil
}

// repair makes the groups again if Redis lost them; without an error the read may come again at once.
func (s *session) repair(ctx context.Context, err error) error {
	if !stream.NoGroup(err) {
		s.failed(ctx, "read jobs", err)
		return err
	}
	s.again()
	if err = s.makeGroups(ctx); err != nil {
		s.failed(ctx, "make groups", err)
	}
	return err
}

// ack removes a job that needs no other worker. If it fails the entry is swept later, and another who takes it is told
// that it is too late.
func (s *session) ack(ctx context.Context, d *delivery) {
	pipe := s.redis.Pipeline()
	pipe.XAck(ctx, d.stream, stream.Group, d.id)
	pipe.XDel(ctx, d.stream, d.id)
	if _, err := pipe.Exec(ctx); err != nil {
		s.failed(ctx, "ack", err)
	}
}
