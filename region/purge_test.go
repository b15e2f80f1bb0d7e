package region

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// everywhere is what a test says of other regions.
type everywhere struct {
	homes map[string]string
	asked chan string // sessions that were found to be unused
	level atomic.Bool
}

func (e *everywhere) Home(session string) string {
	e.asked <- session
	return e.homes[session]
}

func (e *everywhere) CaughtUp(_ uint8, _ crdt.Vector) bool { return e.level.Load() }

// await waits until a session was found to be unused once more.
func (e *everywhere) await(session string) {
	for <-e.asked != session {
	}
}

// TestUnusedSessionsArePurged: once all regions have all of it, and by its home only.
func TestUnusedSessionsArePurged(t *testing.T) {
	t.Parallel() // it waits, mostly
	var ahead atomic.Int64
	s := startWith(t, Config{Region: "a", Node: "n1", Dir: t.TempDir(), SessionTTL: time.Hour, Now: func() time.Time {
		return time.Now().Add(time.Duration(ahead.Load()))
	}})
	all := &everywhere{homes: map[string]string{"u/ours": "a", "u/theirs": "b", "u/used": "a"}, asked: make(chan string, 10_000)}
	for session := range all.homes {
		s.put(t, session, msg("m", "x"))
	}
	ahead.Store(int64(time.Hour + 7*time.Minute))
	s.put(t, "u/used", msg("m2", "x"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Purge(ctx, 0, all) }()
	all.await("u/ours")
	all.await("u/ours") // the first look has ended
	s.has(t, "u/ours", 1)
	all.level.Store(true)
	for e := range s.events {
		if len(e.Changes) > 0 && e.Changes[0].Op.Kind == crdt.KindPurge {
			break
		}
	}
	for range 2 {
		all.await("u/theirs")
	}
	s.has(t, "u/ours", 0)
	s.has(t, "u/theirs", 1)
	s.has(t, "u/used", 2)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// has checks how many entries a session has.
func (s *started) has(t *testing.T, session string, want int) {
	t.Helper()
	if err := s.View(session, func(st crdt.Store) {
		if log, _ := crdt.Page(st, 0, 100); len(log) != want {
			t.Errorf("%s has %d entries, not %d", session, len(log), want)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	for ttl, ago := range map[time.Duration]time.Duration{
		10 * time.Minute: 11 * time.Minute, 5 * time.Hour: 5*time.Hour + 30*time.Minute, 720 * time.Hour: 721 * time.Hour,
	} {
		if got := now.Sub(Expiry(now, ttl)); got != ago {
			t.Errorf("%s: unused for %s, not %s", ttl, got, ago)
		}
	}
}
