package dispatch_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// takeoverAfter is how long a region of a stage must not be heard.
const takeoverAfter = 10 * time.Second

// abroad is what a stage says of other regions and of its clients.
type abroad struct {
	silent map[string]time.Duration
	open   []string
	asked  int
}

// Gone implements dispatch.Abroad.
func (a *abroad) Gone(_ uint32, after time.Duration) (gone []string) {
	for region, d := range a.silent {
		if d >= after {
			gone = append(gone, region)
		}
	}
	slices.Sort(gone)
	return gone
}

// Followed implements dispatch.Abroad.
func (a *abroad) Followed(_ context.Context, sessions []string) []string {
	a.asked++
	return slices.DeleteFunc(slices.Clone(sessions), func(s string) bool { return !slices.Contains(a.open, s) })
}

// from has ops come from shanghai, which has issued them: clients' or workers'.
func (r *region) from(session string, ops ...crdt.Op) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	origin, id, f := r.origin, r.id, r.f
	if r.abroad == nil {
		r.abroad = map[uint8]uint64{}
	}
	r.origin, r.f = crdt.NewOrigin("shanghai", 9), r.abroad
	r.id = r.origin.ID()
	defer func() { r.origin, r.id, r.f = origin, id, f }()
	for _, op := range ops {
		op.Session, op.User = session, "u"
		r.stamp(&op)
		if st := r.store(session); !op.Kind.IsAnswer() {
			crdt.Issue(st, &op, crdt.Floor{})
		} else if held := crdt.IssueAnswer(st, &op, "shanghai"); held.Verdict != crdt.Accepted {
			r.t.Errorf("shanghai reports, and is told %d", held.Verdict)
			continue
		}
		r.apply(r.store(session), &op)
	}
}

// half is a question that shanghai has begun to answer.
func (r *region) half(session string) (run string) {
	r.t.Helper()
	run = crdt.RunID("m1", "echo", "0")
	r.from(session, crdt.Op{Kind: crdt.KindMsg, OID: "m1", Role: "user", Text: prompt, Models: []string{"echo"}},
		crdt.Op{Kind: crdt.KindBegin, Run: run, Nonce: "ws", Model: "echo"},
		crdt.Op{Kind: crdt.KindChunk, Run: run, Nonce: "ws", Text: "half of"})
	return run
}

func (s *stage) pass(d time.Duration) {
	for end := s.clock.Add(d); s.clock.Before(end); {
		s.round()
	}
}

// TestTakeOver: an answer of a region that is not heard is made here once somebody here waits for it, and not before.
func TestTakeOver(t *testing.T) {
	s := newStage(t)
	defer s.close()
	s.hire()
	run := s.half("u/a")
	s.abroad.open = []string{"u/a"}
	s.pass(time.Minute)
	if s.slot("u/a", run).Home() != "shanghai" {
		t.Fatal("taken over although its home is heard")
	}
	s.abroad.open, s.abroad.silent = nil, map[string]time.Duration{"shanghai": takeoverAfter}
	s.pass(time.Minute)
	if s.slot("u/a", run).Home() != "shanghai" || s.abroad.asked == 0 {
		t.Fatalf("taken over although nobody waits for it (asked %d times)", s.abroad.asked)
	}
	s.abroad.open = []string{"u/a"}
	since := s.clock
	s.until("the answer", func() bool { return s.slot("u/a", run).State.Closed() })
	whole := strings.Join(strings.Fields(prompt), " ")
	if slot := s.slot("u/a", run); s.text("u/a", run) != whole || slot.Attempt.Epoch != 2 || slot.Attempt.Region != regionName {
		t.Errorf("%q, %s", s.text("u/a", run), slot.Attempt)
	}
	if took := s.clock.Sub(since); took > 8*time.Second {
		t.Errorf("after %s", took)
	}
	if s.shown("u/a", run) != whole {
		t.Errorf("a client is shown %q", s.shown("u/a", run))
	}
}

// TestTakeOverForWhoHasPut: who has put here lately waits for the answer, without having its session open; who has long ago does not.
func TestTakeOverForWhoHasPut(t *testing.T) {
	s := newStage(t)
	defer s.close()
	s.hire()
	run := s.half("u/a")
	s.put("u/a", crdt.Op{Kind: crdt.KindSet, OID: "k", Key: "k", Value: []byte("1")})
	s.pass(6 * time.Minute)
	s.abroad.silent = map[string]time.Duration{"shanghai": takeoverAfter}
	s.pass(20 * time.Second)
	if s.slot("u/a", run).Home() != "shanghai" {
		t.Error("taken over for who has left")
	}
	s.put("u/a", crdt.Op{Kind: crdt.KindSet, OID: "k2", Key: "k", Value: []byte("2")})
	s.until("the answer", func() bool { return s.slot("u/a", run).State.Closed() })
}

// TestTakeOverToStop: of an answer that is to be stopped, what has come stays.
func TestTakeOverToStop(t *testing.T) {
	s := newStage(t)
	defer s.close()
	run := s.half("u/a")
	s.put("u/a", crdt.Op{Kind: crdt.KindStop, OID: "s", Run: run})
	s.abroad.silent = map[string]time.Duration{"shanghai": takeoverAfter}
	s.until("its end", func() bool { return s.slot("u/a", run).State.Closed() })
	if slot := s.slot("u/a", run); s.text("u/a", run) != "half of" || slot.Fin != "stopped" || slot.Attempt.Region != regionName {
		t.Errorf("%q, %s, %s", s.text("u/a", run), slot.Fin, slot.Attempt)
	}
}

// TestTakenAway: a worker whose answer another region has taken over is told at once, and a job that nobody has taken yet goes.
func TestTakenAway(t *testing.T) {
	s := newStage(t)
	defer s.close()
	h := s.hire()
	s.pass(2 * time.Second)
	words := strings.Repeat("w ", 200)
	running, waiting := s.ask("u/a", "m1", words, "echo")[0], s.ask("u/b", "m1", words, "echo")[0]
	s.ask("u/c", "m1", words, "echo")
	s.until("two answers", func() bool { return len(s.text("u/a", running)) > 20 && len(s.text("u/b", waiting)) > 20 })
	third := s.slot("u/c", waiting) // the worker has two hands: it waits in Redis
	if third.State != crdt.RunQueued || len(h.answers) != 2 {
		t.Fatalf("%s, %d answers at once", third.State, len(h.answers))
	}
	for _, session := range []string{"u/a", "u/c"} {
		slot := s.slot(session, running)
		s.from(session, *slot.TakeOver(s.store(session), session)[0])
	}
	since := s.clock
	s.until("the worker gives it up", func() bool { return len(h.answers) == 1 })
	if took := s.clock.Sub(since); took > time.Second {
		t.Errorf("after %s", took)
	}
	entries, err := s.mini.Stream("roam:" + regionName + ":jobs:echo")
	if err != nil || len(entries) != 0 {
		t.Errorf("%d jobs are left: %v", len(entries), err)
	}
}
