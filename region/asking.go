package region

import (
	"context"
	"sync"
)

// asking counts who waits for an answer from Raft: once it is shut down it may leave questions without one, for ever.
type asking struct {
	mu    sync.Mutex
	ended bool
	now   sync.WaitGroup
}

// askRaft lets somebody ask Raft, unless the node is stopping. Whoever may has to call done; until then Raft is not shut down. The
// context ends when the node stops.
func (r *Region) askRaft(ctx context.Context) (_ context.Context, done func(), ok bool) {
	r.asking.mu.Lock()
	defer r.asking.mu.Unlock()
	if r.asking.ended {
		return ctx, nil, false
	}
	r.asking.now.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(r.stopping, cancel)
	return ctx, func() {
		unhook()
		cancel()
		r.asking.now.Done()
	}, true
}

// lastAnswers waits until all who have asked Raft have their answers. Nobody may ask any more.
func (r *Region) lastAnswers() {
	r.asking.mu.Lock()
	r.asking.ended = true
	r.asking.mu.Unlock()
	r.asking.now.Wait()
}
