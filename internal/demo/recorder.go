package demo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/coder/websocket"
)

// recorder follows a session over a bare WebSocket and notes what it is sent, as a device that does not know the SDK.
type recorder struct {
	name    string
	session string
	ws      *websocket.Conn

	mu      sync.Mutex
	order   []string // oids of entries, in the order they first came; guarded by mu
	entries map[string]*recorded
	title   string
	stamp   string // of the title
	doubled int
	missing int
	live    bool
	failed  error
	changed chan struct{} // closed at the next change
}

// recorded is an entry and how often it came.
type recorded struct {
	Held
	ep     string
	run    bool
	closed bool
	times  int
}

// recorderFrame has the fields of roam.v1 that a recorder looks at.
type recorderFrame struct {
	T    string
	S    string
	Log  []recorderItem
	Ops  []recorderItem
	Map  map[string]recorderItem
	Run  string
	EP   string
	Off  int
	D    string
	Code string
	Msg  string
}

type recorderItem struct {
	K, OID, At, Of, State, EP, Key, HLC string
	Seq                                 uint64
	Text                                *string
	V                                   json.RawMessage
}

// record connects a recorder and opens the session. The caller runs follow.
func record(ctx context.Context, region Region, token, session string) (*recorder, error) {
	ws, _, err := websocket.Dial(ctx, region.URL, &websocket.DialOptions{Subprotocols: []string{"roam.v1.json"}})
	if err != nil {
		return nil, fmt.Errorf("recorder in %s: %w", region.Name, err)
	}
	ws.SetReadLimit(32 << 20)
	r := &recorder{
		name: "recorder in " + region.Name, session: session, ws: ws,
		entries: map[string]*recorded{}, changed: make(chan struct{}),
	}
	hello, _ := json.Marshal(map[string]any{
		"t": "hello", "id": 1, "token": token, "device": "recorder", "agent": "roam-demo",
		"open": []any{map[string]any{"s": session, "tail": 500}},
	})
	if err := ws.Write(ctx, websocket.MessageText, hello); err != nil {
		_ = ws.CloseNow()
		return nil, fmt.Errorf("recorder in %s: %w", region.Name, err)
	}
	return r, nil
}

// follow notes what comes until ctx ends or the connection does, which is a failure: a recorder does not come back.
func (r *recorder) follow(ctx context.Context) {
	defer r.ws.CloseNow()
	for {
		_, b, err := r.ws.Read(ctx)
		if err != nil {
			r.fail(err)
			return
		}
		for line := range bytes.Lines(b) {
			var f recorderFrame
			if err := json.Unmarshal(line, &f); err != nil {
				r.fail(err)
				return
			}
			if f.T == "ping" {
				if err := r.ws.Write(ctx, websocket.MessageText, []byte(`{"t":"pong"}`)); err != nil {
					r.fail(err)
					return
				}
				continue
			}
			r.note(&f)
		}
	}
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = err
	r.touch()
}

func (r *recorder) touch() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// note takes one frame.
func (r *recorder) note(f *recorderFrame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.touch()
	switch {
	case f.T == "err":
		r.failed = fmt.Errorf("%s: %s", f.Code, f.Msg)
	case f.S != r.session:
	case f.T == "tok":
		r.tok(f)
	case f.T == "snap" || f.T == "delta":
		r.live = true
		for i := range f.Log {
			r.entry(&f.Log[i])
		}
		for i := range f.Ops {
			r.op(&f.Ops[i])
		}
		if it, ok := f.Map["title"]; ok {
			r.set(&it)
		}
	}
}

func (r *recorder) op(it *recorderItem) {
	switch {
	case it.K == "msg" || it.K == "run":
		r.entry(it)
	case it.K == "set" && it.Key == "title":
		r.set(it)
	}
}

func (r *recorder) set(it *recorderItem) {
	if it.HLC == r.stamp {
		r.doubled++
	}
	if it.HLC > r.stamp {
		r.stamp = it.HLC
		_ = json.Unmarshal(it.V, &r.title)
	}
}

// entry takes a message or an answer. A message comes again only when its place has changed.
func (r *recorder) entry(it *recorderItem) {
	e := r.entries[it.OID]
	if e == nil {
		e = &recorded{}
		r.entries[it.OID] = e
		r.order = append(r.order, it.OID)
	}
	e.run = it.K == "run"
	if !e.run && (e.times == 0 || e.Seq == it.Seq && e.At == it.At) {
		e.times++
	}
	e.OID, e.Of, e.Seq, e.At, e.closed = it.OID, it.Of, it.Seq, it.At, closedState(it.State)
	e.ep = it.EP
	if it.Text != nil {
		e.Text = *it.Text
	}
}

func closedState(s string) bool { return s == "done" || s == "failed" || s == "stopped" }

// tok takes a piece, and counts the bytes that came twice or not in their turn.
func (r *recorder) tok(f *recorderFrame) {
	e := r.entries[f.Run]
	if e == nil {
		r.missing += len(f.D)
		return
	}
	if f.EP > e.ep && f.Off <= len(e.Text) {
		e.ep, e.Text = f.EP, e.Text[:f.Off]
	}
	held := len(e.Text)
	switch {
	case f.Off > held:
		r.missing += f.Off - held
		e.Text += f.D
	case f.Off < held:
		over := min(held-f.Off, len(f.D))
		r.doubled += over
		e.Text += f.D[over:]
	default:
		e.Text += f.D
	}
}

// holding is what was noted so far.
func (r *recorder) holding() Holding {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := Holding{Name: r.name, Title: r.title, Doubled: r.doubled, Missing: r.missing}
	for _, oid := range r.order {
		e := r.entries[oid]
		for range max(1, e.times) {
			h.Entries = append(h.Entries, e.Held)
		}
	}
	slices.SortStableFunc(h.Entries, func(a, b Held) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.At, b.At))
	})
	return h
}

// await waits until ok, which is called with the lock held, or the recorder has failed, or ctx ends.
func (r *recorder) await(ctx context.Context, ok func() bool) error {
	for {
		r.mu.Lock()
		done, failed, changed := ok(), r.failed, r.changed
		r.mu.Unlock()
		switch {
		case done:
			return nil
		case failed != nil:
			return fmt.Errorf("%s: %w", r.name, failed)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// complete reports whether everything of the script is there, as far as can be seen. The caller holds mu.
func (r *recorder) complete(script Script) bool {
	for _, m := range script.Messages {
		if r.entries[m.OID] == nil || m.Asks && !r.answered(m.OID) {
			return false
		}
	}
	return r.title == script.Title
}

func (r *recorder) answered(question string) bool {
	for _, e := range r.entries {
		if e.run && e.Of == question && e.closed {
			return true
		}
	}
	return false
}
