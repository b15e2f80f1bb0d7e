package chat

import (
	"context"
	"log/slog"
	"sync"
)

// watch calls f with a snapshot now and after changes, until ctx ends. It skips states, never the last one.
func (r *room) watch(ctx context.Context, f func(snapshot)) {
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for range r.session.Watch(ctx) {
			nudge(changed)
		}
	}()
	defer func() { <-ended }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-r.trouble.changed:
		}
		f(r.look())
	}
}

// nudge signals without waiting: one signal that was not taken yet is enough.
func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// trouble keeps why the last connection ended, which the client tells its log only.
type trouble struct {
	changed chan struct{}
	mu      sync.Mutex
	text    string // guarded by mu
}

func newTrouble() *trouble { return &trouble{changed: make(chan struct{}, 1)} }

func (t *trouble) now() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// Enabled implements slog.Handler.
func (t *trouble) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (t *trouble) WithAttrs([]slog.Attr) slog.Handler { return t }

// WithGroup implements slog.Handler.
func (t *trouble) WithGroup(string) slog.Handler { return t }

// Handle implements slog.Handler.
func (t *trouble) Handle(_ context.Context, rec slog.Record) error {
	rec.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" {
			t.mu.Lock()
			t.text = cleanLine(a.Value.String())
			t.mu.Unlock()
			nudge(t.changed)
		}
		return true
	})
	return nil
}
