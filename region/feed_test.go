package region

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// pull takes some records of every feed that from has, and reports whether any were new.
func (s *started) pull(t *testing.T, from *started, maxBytes int) (moved bool) {
	t.Helper()
	for _, o := range from.Origins() {
		if o == s.Self() {
			continue
		}
		for p := range uint8(crdt.Partitions) {
			have := s.Cursors(p)[o.ID()]
			rs, err := from.Feed(o, p, have+1, maxBytes)
			if err != nil {
				t.Fatal(err)
			}
			if len(rs.Records) == 0 {
				continue
			}
			got, err := s.Ingest(t.Context(), rs)
			if err != nil {
				t.Fatal(err)
			}
			moved = moved || got > have
		}
	}
	return moved
}

// recomputed sums a partition's digest from scratch.
func (s *started) recomputed(t testing.TB, p uint8) uint64 {
	t.Helper()
	sum, err := s.of(p).fsm.Recompute(p)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func sameState(t *testing.T, a, b *started, sessions []string) {
	t.Helper()
	for p := range uint8(crdt.Partitions) {
		da, err1 := a.Digest(p)
		db, err2 := b.Digest(p)
		if err := errors.Join(err1, err2); err != nil || da != db || da != a.recomputed(t, p) {
			t.Errorf("partition %d: digests %x, %x, recomputed %x, %v", p, da, db, a.recomputed(t, p), err)
		}
		if !a.Cursors(p).Covers(b.Cursors(p)) || !b.Cursors(p).Covers(a.Cursors(p)) {
			t.Errorf("partition %d: cursors %v, %v", p, a.Cursors(p), b.Cursors(p))
		}
	}
	for _, name := range sessions {
		if x, y := a.encoded(t, name), b.encoded(t, name); x != y || x == "" {
			t.Errorf("session %s differs (%d and %d bytes)", name, len(x), len(y))
		}
	}
}

func (s *started) encoded(t *testing.T, session string) (out string) {
	t.Helper()
	if err := s.View(session, func(st crdt.Store) { out = string(crdt.Encode(st)) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRegionsConverge: two regions that put, ask and answer on their own, and exchange feeds in random portions, end
// with the same bytes and digests.
func TestRegionsConverge(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	a, b := start(t, "beijing", t.TempDir()), start(t, "shanghai", t.TempDir())
	both := []*started{a, b}
	var sessions []string
	for i := range 5 {
		sessions = append(sessions, fmt.Sprintf("alice/%d", i))
	}
	for i := range 200 {
		s := both[rng.IntN(2)]
		switch rng.IntN(4) {
		case 0:
			s.pull(t, both[rng.IntN(2)], 1+rng.IntN(2000))
		case 1:
			s.work(t)
		default:
			op := msg(fmt.Sprintf("m%d", rng.IntN(i+1)), "text")
			op.Session = sessions[rng.IntN(len(sessions))]
			if rng.IntN(3) == 0 {
				op.Models = []string{"echo"}
				op.OID = "q" + op.OID
			}
			if rng.IntN(2) == 0 {
				op.Trace = &crdt.Trace{ID: [16]byte{byte(i), 1}, Span: [8]byte{1}, Flags: 1}
			}
			s.put(t, op.Session, op)
		}
	}
	for a.pull(t, b, 1<<20) || b.pull(t, a, 1<<20) {
	}
	sameState(t, a, b, sessions)
}

// work does a worker's steps on every answer that waits here.
func (s *started) work(t *testing.T) {
	t.Helper()
	runs, _, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		nonce := s.cfg.Region + r.Run
		ops := []*crdt.Op{
			{Kind: crdt.KindBegin, Session: r.Session, Run: r.Run, Nonce: nonce, Model: "echo"},
			{Kind: crdt.KindChunk, Session: r.Session, Run: r.Run, Nonce: nonce, Text: "hello"},
			{Kind: crdt.KindChunk, Session: r.Session, Run: r.Run, Nonce: nonce, Off: 5, Text: " world"},
			{Kind: crdt.KindDone, Session: r.Session, Run: r.Run, Nonce: nonce, Off: 11, State: crdt.RunDone, Fin: "end",
				Trace: &crdt.Trace{ID: [16]byte{1}, Span: [8]byte{1}}},
		}
		if _, err := s.Answer(t.Context(), ops, ""); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnswersCommitTheirPosition(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	q := msg("q", "hello world")
	q.Models = []string{"echo"}
	s.put(t, q.Session, q)
	run := crdt.RunID("q", "echo", "0")
	report := func(kind crdt.Kind, off uint64, text string) crdt.Held {
		t.Helper()
		op := &crdt.Op{Kind: kind, Session: q.Session, Run: run, Nonce: "w", Off: off, Text: text, State: crdt.RunDone, Fin: "end"}
		held, err := s.Answer(t.Context(), []*crdt.Op{op}, fmt.Sprintf("%d-0", off+1))
		if err != nil {
			t.Fatal(err)
		}
		return held[0]
	}
	if h := report(crdt.KindChunk, 0, "early"); h.Verdict != crdt.Superseded {
		t.Errorf("a piece before its begin: %+v", h)
	}
	if h := report(crdt.KindBegin, 0, ""); h.Verdict != crdt.Accepted || h.Attempt.Region != "beijing" {
		t.Errorf("begin: %+v", h)
	}
	report(crdt.KindChunk, 0, "hello")
	if h := report(crdt.KindChunk, 9, "gap"); h.Verdict != crdt.Gap || h.Len != 5 {
		t.Errorf("a gap: %+v", h)
	}
	s.stop()
	s = start(t, "beijing", dir)
	runs, pos, err := s.Open()
	if err != nil || len(runs) != 1 || runs[0].Run != run || pos != "10-0" {
		t.Fatalf("after a restart: %v at %q, %v", runs, pos, err)
	}
	report(crdt.KindChunk, 0, "hello world")
	report(crdt.KindDone, 11, "")
	if runs, _, _ := s.Open(); len(runs) != 0 {
		t.Errorf("still open: %v", runs)
	}
	if err := s.View(q.Session, func(st crdt.Store) {
		slot, _ := crdt.ReadSlot(st, run)
		if text := slot.Text(st); text != "hello world" || slot.Sum != crdt.SumOf(text) || slot.Len != 11 {
			t.Errorf("answer %q, %+v", text, slot)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestIngestRefuses(t *testing.T) {
	a, b := start(t, "beijing", t.TempDir()), start(t, "shanghai", t.TempDir())
	p := crdt.PartitionOf("alice/trip")
	for i := range 4 {
		a.put(t, "alice/trip", msg(fmt.Sprintf("m%d", i), "text"))
	}
	feed := func(from uint64) wire.Records {
		rs, err := a.Feed(a.Self(), p, from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return rs
	}
	check := func(what string, rs wire.Records, want error, cursor uint64) {
		t.Helper()
		got, err := b.Ingest(t.Context(), rs)
		if !errors.Is(err, want) || got != cursor || b.Cursors(p)[a.Self().ID()] != cursor {
			t.Errorf("%s: cursor %d, %v; want %d, %v", what, got, err, cursor, want)
		}
	}
	check("a gap", feed(2), wire.ErrGap, 0)
	bad := feed(1)
	bad.Hash[0]++
	check("another hash", bad, wire.ErrFork, 0)
	bad = feed(1)
	bad.Records = append([][]byte{}, bad.Records...)
	bad.Records[1] = append([]byte{}, bad.Records[1]...)
	bad.Records[1][len(bad.Records[1])-1] ^= 1
	if _, err := b.Ingest(t.Context(), bad); err == nil {
		t.Error("a flipped bit was taken")
	}
	bad = feed(1)
	bad.Partition ^= 1
	if _, err := b.Ingest(t.Context(), bad); err == nil {
		t.Error("records of another partition were taken")
	}
	check("all", feed(1), nil, 4)
	check("all again", feed(1), nil, 4)
	bad = feed(3)
	bad.Records = [][]byte{bad.Records[1], bad.Records[0]}
	check("something else under the same numbers", bad, wire.ErrFork, 4)
	bad = feed(1)
	bad.Origin = b.Self()
	if _, err := b.Ingest(t.Context(), bad); !errors.Is(err, wire.ErrFork) {
		t.Errorf("records under our own name: %v", err)
	}
}

// TestCausesComeFirst: what shanghai wrote after it had seen beijing's message is held back at chengdu until that is
// there too.
func TestCausesComeFirst(t *testing.T) {
	t.Parallel() // it waits, mostly
	a, b := start(t, "beijing", t.TempDir()), start(t, "shanghai", t.TempDir())
	a.put(t, "alice/trip", msg("q", "question"))
	b.pull(t, a, 1<<20)
	b.put(t, "alice/trip", msg("r", "reply"))
	p := crdt.PartitionOf("alice/trip")
	rs, err := b.Feed(b.Self(), p, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, "chengdu", t.TempDir())
	if got, err := d.Ingest(t.Context(), rs); got != 0 || err != nil {
		t.Errorf("the reply alone: cursor %d, %v", got, err)
	}
	d.pull(t, a, 1<<20)
	if got, err := d.Ingest(t.Context(), rs); got != 1 || err != nil {
		t.Errorf("the reply after the question: cursor %d, %v", got, err)
	}
}

// TestRenew: after a new incarnation the numbers begin again, under another name, and the old feed can be taken back.
func TestRenew(t *testing.T) {
	t.Parallel() // it waits, mostly
	a, b := start(t, "beijing", t.TempDir()), start(t, "shanghai", t.TempDir())
	a.put(t, "alice/trip", msg("m1", "one"))
	b.pull(t, a, 1<<20)
	old := a.Self()
	if err := a.Renew(t.Context(), "beijing.0000000000000000", 0, "not ours"); err != nil || a.Self() != old {
		t.Fatalf("a stale renew changed the incarnation: %v", err)
	}
	if err := a.Renew(t.Context(), old, 0, "test"); err != nil || a.Self() == old {
		t.Fatalf("renew: %v", err)
	}
	e := a.put(t, "alice/trip", msg("m2", "two"))
	if d := e.Placed[0].Dot; d.Origin != a.Self() || d.F != 1 || e.Placed[0].Place.Seq != 2 {
		t.Errorf("after renew: %+v", e.Placed)
	}
	for b.pull(t, a, 1<<20) || a.pull(t, b, 1<<20) {
	}
	sameState(t, a, b, []string{"alice/trip"})
}

func TestDirectories(t *testing.T) {
	t.Parallel() // it waits, mostly
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(region, dir, want string) {
		t.Helper()
		r, err := New(Config{Region: region, Node: "n1", Dir: dir})
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s in %s: %v, want %q", region, dir, err, want)
		}
	}
	open("beijing", filepath.Join(file, "data"), "not a directory")
	open("Beijing!", dir, "1 to 32 of a-z")
	s := start(t, "beijing", dir)
	open("beijing", dir, "another process")
	s.stop()
	open("shanghai", dir, "belongs to node beijing/n1")
}

// TestStateOlderThanTheLog: a state that was put back without its log is refused, not guessed at.
func TestStateOlderThanTheLog(t *testing.T) {
	t.Parallel() // it waits, mostly
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	s.put(t, "alice/trip", msg("m1", "one"))
	if err := s.all()[0].raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	if r, err := New(Config{Region: "beijing", Node: "n1", Dir: dir}); err == nil || !strings.Contains(err.Error(), "empty the directory") {
		if err == nil {
			r.Close()
		}
		t.Errorf("opened: %v", err)
	}
}

// TestStall: a disk that hangs ends the process's work instead of leaving a leader that cannot write.
func TestStall(t *testing.T) {
	var got error
	failed := make(chan struct{})
	w := &stallWatch{LogStore: slowLog{failed: failed}, limit: time.Millisecond, metrics: newMetrics(noMetrics{}), fail: func(err error) {
		got = err
		close(failed)
	}}
	if err := w.StoreLogs(nil); err != nil {
		t.Fatal(err)
	}
	if got == nil || !strings.Contains(got.Error(), "--data") {
		t.Errorf("got %v", got)
	}
}

func TestProposalsEndWhenTheNodeDoes(t *testing.T) {
	s := start(t, "beijing", t.TempDir())
	s.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Answer(ctx, nil, "1-0"); err == nil {
		t.Error("an answer was committed by a node that has ended")
	}
}
