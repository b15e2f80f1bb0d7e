package region

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// settled is what a test says of other regions.
type settled struct {
	s     *started
	asked chan struct{}
	ahead atomic.Int64 // of the clock: seven hours more with every look
	known atomic.Bool
}

func (e *settled) Home(session string) string {
	e.ahead.Add(int64(7 * time.Hour))
	if session == "u/theirs" {
		return "b"
	}
	return "a"
}

func (e *settled) Stable(p uint8, _ uint32) (crdt.Vector, bool) {
	select {
	case e.asked <- struct{}{}:
	default:
	}
	return e.s.Cursors(p), e.known.Load()
}

// TestRemovedIsForgotten: after the time, once it is known what all regions have, and by the session's home only.
func TestRemovedIsForgotten(t *testing.T) {
	t.Parallel() // it waits, mostly
	all := &settled{asked: make(chan struct{}, 1)}
	s := startWith(t, Config{Region: "a", Node: "n1", Dir: t.TempDir(), RemovedTTL: 24 * time.Hour, Now: func() time.Time {
		return time.Now().Add(time.Duration(all.ahead.Load()))
	}})
	all.s = s
	for _, session := range []string{"u/ours", "u/theirs"} {
		s.put(t, session, msg("m", "x"))
		s.put(t, session, &crdt.Op{Kind: crdt.KindForget, OID: "f", User: "u"})
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Expire(ctx, 0, all) }()
	<-all.asked // the session was marked, and the time is over
	s.knows(t, "u/ours", true)
	all.known.Store(true)
	for e := range s.events {
		if len(e.Changes) > 0 && e.Changes[0].Op.Kind == crdt.KindExpire {
			break
		}
	}
	s.knows(t, "u/ours", false)
	s.knows(t, "u/theirs", true)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// knows checks whether the id of what was removed is known.
func (s *started) knows(t *testing.T, session string, want bool) {
	t.Helper()
	if err := s.View(session, func(st crdt.Store) {
		if _, known := crdt.Lookup(st, "m"); known != want {
			t.Errorf("m of %s is known: %t", session, known)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
