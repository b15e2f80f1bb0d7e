package stream

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Backoff doubles from Min to Max; each wait is drawn from the upper half. Its owner is one goroutine.
type Backoff struct {
	Min, Max time.Duration
	// Draw draws from 0 to below n; nil: at random.
	Draw func(n int64) int64
	// Sleep waits for d, or until ctx ends, and reports whether to go on; nil: by the machine's clock.
	Sleep func(ctx context.Context, d time.Duration) bool

	next time.Duration
}

// Next returns how long to wait now.
func (b *Backoff) Next() time.Duration {
	d := max(b.next, b.Min)
	b.next = min(2*d, b.Max)
	draw := b.Draw
	if draw == nil {
		draw = rand.Int64N
	}
	return d/2 + time.Duration(draw(int64(d/2)+1))
}

// Reset starts again from Min.
func (b *Backoff) Reset() { b.next = 0 }

// Wait waits for the next delay, or until ctx ends; it reports whether to go on.
func (b *Backoff) Wait(ctx context.Context) bool {
	if b.Sleep != nil {
		return b.Sleep(ctx, b.Next())
	}
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// quiet is how long Health says nothing after it has said that Redis fails.
const quiet = 10 * time.Second

// Health logs when Redis goes away and when it is back; not every failure between, and not often when it comes and goes.
type Health struct {
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
	down atomic.Bool

	mu   sync.Mutex // guards what follows
	said bool
	at   time.Time
}

// Failed notes that an operation failed.
func (h *Health) Failed(ctx context.Context, op string, err error) {
	if ctx.Err() != nil || h.down.Swap(true) {
		return
	}
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	h.mu.Lock()
	say := h.at.IsZero() || now().Sub(h.at) >= quiet
	if say {
		h.said, h.at = true, now()
	}
	h.mu.Unlock()
	if say {
		h.Log.WarnContext(ctx, "redis does not answer; trying again until it does", "op", op, "err", err)
	}
}

// OK notes that an operation succeeded.
func (h *Health) OK() {
	if !h.down.Load() || !h.down.Swap(false) {
		return
	}
	h.mu.Lock()
	said := h.said
	h.said = false
	h.mu.Unlock()
	if said {
		h.Log.Info("redis answers again")
	}
}
