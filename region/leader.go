package region

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// leader is who leads a group, as this node knows it.
type leader struct {
	mu      sync.Mutex
	id      string
	changed chan struct{} // closed when id changes
}

func newLeader() *leader { return &leader{changed: make(chan struct{})} }

// now returns the leader's raft id, "" for none, and what is closed when that changes.
func (l *leader) now() (id string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id, l.changed
}

func (l *leader) set(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id {
		return
	}
	l.id = id
	close(l.changed)
	l.changed = make(chan struct{})
}

// follow keeps up with Raft until ctx ends. The observer drops what it cannot deliver at once, so it is asked as well.
func (l *leader) follow(ctx context.Context, r *raft.Raft) error {
	changes := make(chan raft.Observation, 1)
	obs := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.RegisterObserver(obs)
	defer r.DeregisterObserver(obs)
	poll := time.NewTicker(heartbeat)
	defer poll.Stop()
	for {
		_, id := r.LeaderWithID()
		l.set(string(id))
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-poll.C:
		}
	}
}

// Lead is Region.Lead, for one group.
func (g *group) Lead(ctx context.Context, fn func(context.Context) error) error {
	return g.leadTerm(ctx, func(ctx context.Context, _ uint64) error { return fn(ctx) })
}

// leadTerm runs fn while the node leads in a term, and all that was committed before is applied.
func (g *group) leadTerm(ctx context.Context, fn func(context.Context, uint64) error) error {
	ctx, done, ok := g.r.askRaft(ctx)
	if !ok {
		return nil
	}
	defer done()
	changes := make(chan raft.Observation, 1)
	obs := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.RaftState)
		return ok
	})
	g.raft.RegisterObserver(obs)
	defer g.raft.DeregisterObserver(obs)
	poll := time.NewTicker(heartbeat)
	defer poll.Stop()
	for {
		term := g.raft.CurrentTerm()
		if g.raft.State() == raft.Leader && g.raft.Barrier(g.r.cfg.CommitDeadline).Error() == nil && g.raft.CurrentTerm() == term {
			if err := g.leadOnce(ctx, changes, term, fn); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-poll.C: // the observer drops what it cannot deliver at once
		}
	}
}

func (g *group) leadOnce(ctx context.Context, changes <-chan raft.Observation, term uint64, fn func(context.Context, uint64) error) error {
	over := func() bool { return g.raft.State() != raft.Leader || g.raft.CurrentTerm() != term }
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- fn(ctx, term) }()
	poll := time.NewTicker(heartbeat)
	defer poll.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil || over() {
				return nil
			}
			if err == nil {
				err = errors.New("ended while leading")
			}
			return err
		case <-changes:
		case <-poll.C:
		}
		if over() {
			stop()
		}
	}
}
