package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire"
)

const (
	regionName = "beijing"
	awaitLimit = 20 * time.Second
)

// region does with ops what a region does, in memory: it issues, judges, numbers and applies them.
type region struct {
	t      *testing.T
	name   string
	origin crdt.Origin
	id     crdt.OriginID

	mu       sync.Mutex       // guards what follows
	time     func() time.Time // the machine's clock, unless the test has its own
	shift    time.Duration
	clock    crdt.Clock
	sessions map[string]*crdt.Mem
	f        map[uint8]uint64
	abroad   map[uint8]uint64 // the same of another region
	begun    map[string]int   // attempts by session and answer
	position string
	rewinds  bool // the position may go back
	watchers map[int]func([]wire.Event)
	nextID   int
	changed  chan struct{} // closed and replaced after every commit
	client   client
	history  []*crdt.Op
	answers  int
	trouble  func(n int) (before, after error) // what the n-th Answer fails with
}

func newRegion(t *testing.T) *region {
	o := crdt.NewOrigin(regionName, 7)
	return &region{
		t: t, time: time.Now, name: regionName, origin: o, id: o.ID(), sessions: map[string]*crdt.Mem{}, begun: map[string]int{}, f: map[uint8]uint64{},
		watchers: map[int]func([]wire.Event){}, changed: make(chan struct{}), client: client{t: t, runs: map[string]*shown{}},
	}
}

func (r *region) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.time().Add(r.shift)
}

// attempts is how often an answer was begun.
func (r *region) attempts(session, run string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begun[session+" "+run]
}

// advance moves the region's clock on.
func (r *region) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shift += d
}

func (r *region) store(session string) *crdt.Mem {
	if r.sessions[session] == nil {
		r.sessions[session] = crdt.NewMem()
	}
	return r.sessions[session]
}

// put commits a client's ops.
func (r *region) put(session string, ops ...crdt.Op) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.store(session)
	all := make([]*crdt.Op, len(ops))
	for i := range ops {
		ops[i].Session, ops[i].User = session, "u"
		all[i] = &ops[i]
	}
	if err := crdt.Check(st, all, crdt.Floor{}); err != nil {
		r.t.Errorf("put: %v", err)
		return
	}
	for _, op := range all {
		r.stamp(op)
		if _, known := crdt.Issue(st, op, crdt.Floor{}); !known {
			r.apply(st, op)
		}
	}
}

func (r *region) stamp(op *crdt.Op) {
	now := r.time().Add(r.shift)
	op.Stamp, op.TS = r.clock.Next(now, 0), now.UnixMilli()
}

// apply is called with mu held: watchers are told in order, and do not block.
func (r *region) apply(st *crdt.Mem, op *crdt.Op) {
	p := crdt.PartitionOf(op.Session)
	r.f[p]++
	op, err := crdt.DecodeOp(op.Encode()) // as it would come out of a log
	if err != nil {
		r.t.Errorf("op: %v", err)
		return
	}
	dot := crdt.Dot{Origin: r.origin, ID: r.id, Partition: p, F: r.f[p]}
	items := crdt.Apply(st, op, dot)
	r.client.take(op.Session, items)
	r.history = append(r.history, op)
	ev := []wire.Event{{Session: op.Session, Changes: []wire.Change{{Dot: dot, Op: op, Items: items}}}}
	for _, fn := range r.watchers {
		fn(ev)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Answer implements dispatch.Commits.
func (r *region) Answer(ctx context.Context, ops []*crdt.Op, position string) ([]crdt.Held, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var before, after error
	if r.answers++; r.trouble != nil {
		before, after = r.trouble(r.answers)
	}
	if before != nil {
		return nil, before
	}
	held := make([]crdt.Held, len(ops))
	for i, op := range ops {
		st := r.store(op.Session)
		r.stamp(op)
		if held[i] = crdt.IssueAnswer(st, op, r.name); held[i].Verdict == crdt.Accepted {
			r.apply(st, op)
			if op.Kind == crdt.KindBegin {
				r.begun[op.Session+" "+op.Run]++
			}
		}
	}
	if position != "" {
		r.move(position)
	}
	return held, after
}

// move takes a position; it goes back only where a test has made the stream start again.
func (r *region) move(position string) {
	from, _ := stream.ParseID(r.position)
	to, err := stream.ParseID(position)
	if err != nil || (to.Less(from) && !r.rewinds) {
		r.t.Errorf("position went from %q to %q: %v", r.position, position, err)
	}
	r.position = position
}

// Open implements dispatch.Commits.
func (r *region) Open() (runs []wire.OpenRun, position string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for session, st := range r.sessions {
		for _, run := range crdt.OpenRuns(st) {
			runs = append(runs, wire.OpenRun{Session: session, Run: run})
		}
	}
	return runs, r.position, nil
}

// View implements dispatch.Commits.
func (r *region) View(session string, read func(crdt.Store)) error {
	r.mu.Lock()
	st := r.store(session).Clone()
	r.mu.Unlock()
	read(st)
	return nil
}

// Watch implements dispatch.Commits.
func (r *region) Watch(fn func([]wire.Event)) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.nextID
	r.nextID++
	r.watchers[id] = fn
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, id)
	}
}

// slot reads an answer.
func (r *region) slot(session, run string) *crdt.Slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := crdt.ReadSlot(r.store(session), run)
	if !ok {
		r.t.Errorf("no answer %s in %s", run, session)
		return &crdt.Slot{}
	}
	return s
}

func (r *region) text(session, run string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, _ := crdt.ReadSlot(r.store(session), run)
	return s.Text(r.store(session))
}

func (r *region) committed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.position
}

// await waits for commits until cond holds.
func (r *region) await(what string, cond func() bool) {
	r.t.Helper()
	limit := time.NewTimer(awaitLimit)
	defer limit.Stop()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			r.t.Fatalf("%s: not within %v\n%s", what, awaitLimit, r.dump())
		}
	}
}

func (r *region) awaitClosed(session, run string) *crdt.Slot {
	r.t.Helper()
	r.await("answer "+run+" of "+session+" closed", func() bool { return r.slot(session, run).State.Closed() })
	return r.slot(session, run)
}

// awaitAnswer waits for an answer and compares it, as the state has it and as a client was shown it.
func (r *region) awaitAnswer(session, run, want string) *crdt.Slot {
	r.t.Helper()
	s := r.awaitClosed(session, run)
	if got := r.text(session, run); got != want || s.State != crdt.RunDone || s.Fin != "end" {
		r.t.Errorf("answer %s: %v %s %q, want %q", run, s.State, s.Fin, got, want)
	}
	if got := r.shown(session, run); got != want {
		r.t.Errorf("answer %s was shown as %q, want %q", run, got, want)
	}
	return s
}

func (r *region) shown(session, run string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.client.runs[session+" "+run]; s != nil {
		return s.text
	}
	return ""
}

func (r *region) dump() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, op := range r.history {
		fmt.Fprintf(&b, "%d %s %s %s off=%d %q %s %s\n", op.Kind, op.Session, op.OID+op.Run, op.Nonce, op.Off, op.Text, op.Fin, op.Err)
	}
	return b.String()
}

// at returns where in the history an op is, or -1.
func (r *region) at(is func(*crdt.Op) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, op := range r.history {
		if is(op) {
			return i
		}
	}
	return -1
}

// client is shown what a client is shown, and complains of bytes that come twice or not at all.
type client struct {
	t    *testing.T
	runs map[string]*shown
}

type shown struct{ ep, text string }

func (c *client) take(session string, items []crdt.Item) {
	for _, it := range items {
		switch {
		case it.Tok != nil:
			s := c.runs[session+" "+it.Tok.Run]
			if s == nil || s.ep != it.Tok.Attempt.String() || it.Tok.Off != uint64(len(s.text)) {
				c.t.Errorf("piece %+v does not follow %+v", it.Tok, s)
				continue
			}
			s.text += it.Tok.Text
		case it.Entry != nil && it.Entry.Run != nil:
			c.entry(session+" "+it.Entry.OID, it.Entry)
		}
	}
}

func (c *client) entry(key string, e *crdt.Entry) {
	s := c.runs[key]
	if s == nil {
		s = &shown{}
		c.runs[key] = s
	}
	ep := e.Run.Attempt.String()
	if ep < s.ep {
		c.t.Errorf("answer %s went back from attempt %s to %s", e.OID, s.ep, ep)
	}
	s.ep = ep
	if e.Run.Text != nil {
		s.text = *e.Run.Text
	}
	if e.Run.State.Closed() && (e.Run.Len != uint64(len(s.text)) || e.Run.Sum != crdt.SumOf(s.text)) {
		c.t.Errorf("answer %s closed with len %d sum %s; shown was %q", e.OID, e.Run.Len, e.Run.Sum, s.text)
	}
}
