package region

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// leaveLimit is how long a node that cannot go on waits for what still works on its disk. What is on the disk is safe from a crash.
const leaveLimit = time.Second

// failure is why a node cannot go on. The first reason counts.
type failure struct {
	once sync.Once
	done chan struct{} // closed once err is there
	err  error
}

func newFailure() *failure { return &failure{done: make(chan struct{})} }

func (f *failure) set(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.done)
	})
}

// get returns nil while the node can go on.
func (f *failure) get() error {
	select {
	case <-f.done:
		return f.err
	default:
		return nil
	}
}

// Failed is closed when the node cannot go on. Run then returns, within a second, whatever hangs.
func (r *Region) Failed() <-chan struct{} { return r.failure.done }

// Failure is why the node cannot go on, nil while it can.
func (r *Region) Failure() error { return r.failure.get() }

// fail ends Run.
func (r *Region) fail(err error) { r.failure.set(err) }

// quit ends Run, and the goroutine that found out: hashicorp/raft and Pebble panic, or go on as if nothing were, when they are told of an
// error that they do not count on. What the goroutine has deferred runs.
func (r *Region) quit(err error) {
	r.fail(err)
	runtime.Goexit()
}

var errQuit = errors.New("the node cannot go on")

// guarded runs fn on a goroutine that quit may end, and returns its error, or else why the node failed.
func (r *Region) guarded(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errQuit
		defer func() { done <- err }()
		err = fn()
	}()
	err := <-done
	if why := r.failure.get(); errors.Is(err, errQuit) && why != nil {
		return why
	}
	return err
}

// bounded waits for done, but not for long once the node has failed.
func (r *Region) bounded(done <-chan error) (_ error, ended bool) {
	select {
	case err := <-done:
		return err, true
	case <-r.failure.done:
	}
	select {
	case err := <-done:
		return err, true
	case <-time.After(r.cfg.leave):
		return nil, false
	}
}

// Run works until ctx ends or the node cannot go on: a disk that fails or stalls. What there is can be read until Close.
func (r *Region) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { r.way.hurried.Add(1) })() // what ends may wait for a snapshot
	r.ended = make(chan struct{})
	done := make(chan error, 1)
	go func() { // ends when work does, and Raft; Close waits for it
		defer close(r.ended)
		err := r.work(ctx)
		r.ordered = err == nil
		done <- errors.Join(err, r.halt())
	}()
	select {
	case err := <-done:
		if why := r.failure.get(); why != nil {
			return why
		}
		return err
	case <-r.failure.done:
	}
	cancel()
	r.stop()
	r.bounded(done)
	return r.failure.err
}

// Close releases a region that never ran, or whose Run has ended, once nobody reads from it any more. Of a node that has failed it leaves
// what hangs, for the process to end with.
func (r *Region) Close() error {
	told := r.failure.get() != nil // by Run
	done := make(chan error, 1)
	go func() {
		if r.ended != nil {
			<-r.ended
		}
		done <- r.guarded(r.release)
	}()
	err, _ := r.bounded(done)
	if why := r.failure.get(); why != nil && !told {
		return why
	}
	return err
}

// flush makes the state durable, now.
func (r *Region) flush() error {
	r.way.hurried.Add(1)
	defer r.way.hurried.Add(-1)
	return r.flushInTime(context.Background())
}

// flushInTime makes the state durable, and way for clients meanwhile. Pebble tries for ever; this gives up when the node fails.
func (r *Region) flushInTime(ctx context.Context) error {
	flushed, err := r.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("flush state: %w", err)
	}
	select {
	case <-flushed:
		return nil
	case <-r.failure.done:
		return r.failure.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// diskError says what could not be done with the disk, and what helps.
func diskError(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%s: the disk of --data is full; make room and start the node again: %w", what, err)
	}
	return fmt.Errorf("%s: the disk of --data fails; leaving rather than guess what is on it: %w", what, err)
}

// isDisk tells an error of the machine's disk from one of the network or of what came over it.
func isDisk(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// listen gives Pebble the disk, and has it tell of what it would try again for ever, or only log.
func (r *Region) listen(opts *pebble.Options, what string, way *yielding) {
	opts.FS = &watchedDirs{r.cfg.files(), r.quit, way}
	opts.Logger = pebbleLog{r.cfg.Logger, func(err error) { r.quit(diskError("write "+what, err)) }}
	opts.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			if pebble.IsCorruptionError(err) {
				r.fail(r.damaged(what, err))
				return
			}
			r.fail(diskError("write "+what, err))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) { r.fail(r.damaged(info.Path, info.Details)) },
	}
	way.listen(opts.EventListener)
}
