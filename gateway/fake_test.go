package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a truthful region of one node in memory: it issues and applies as a region does, one put at a time.
type fake struct {
	mu       sync.Mutex
	self     crdt.Origin
	clock    crdt.Clock
	sessions map[string]*crdt.Mem
	cursors  [crdt.Partitions]atomic.Pointer[crdt.Vector]
	watchers map[int]func([]wire.Event)
	next     int
	refuse   error // what Submit answers
	reach    wire.Reach
	hastened uint64        // partitions, a bit each
	reached  []func()      // of each gateway that runs
	begun    chan struct{} // one for each that has begun to
	finals   crdt.Finals   // of every partition
	// elsewhere is what the other regions hold; nil: nobody is heard.
	elsewhere crdt.Vector
}

func newFake() *fake {
	f := &fake{
		self: crdt.NewOrigin("beijing", 1), sessions: map[string]*crdt.Mem{}, watchers: map[int]func([]wire.Event){},
		reach: wire.Reach{Safe: true}, begun: make(chan struct{}, 16),
	}
	for p := range f.cursors {
		f.cursors[p].Store(&crdt.Vector{})
	}
	return f
}

func (f *fake) session(name string) *crdt.Mem {
	if f.sessions[name] == nil {
		f.sessions[name] = crdt.NewMem()
	}
	return f.sessions[name]
}

func (f *fake) Submit(p *wire.Put) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	st := f.session(p.Session)
	ev := wire.Event{Session: p.Session, Tag: p.Tag, Refused: crdt.Check(st, p.Ops, p.Floor)}
	for _, op := range p.Ops {
		if ev.Refused != nil {
			break
		}
		now := time.UnixMilli(1_700_000_000_000)
		op.Stamp, op.TS = f.clock.Next(now, p.Floor.Stamp), now.UnixMilli()
		if id, known := crdt.Issue(st, op, p.Floor); !known {
			ev.Changes = append(ev.Changes, f.apply(op, f.self))
		} else {
			ev.Gone = ev.Gone || id.Removed
		}
		id, _ := crdt.Lookup(st, op.OID)
		ev.Placed = append(ev.Placed, wire.Placed{OID: op.OID, Place: id.Place, Version: id.Version(),
			Dot: crdt.Dot{Origin: id.At, ID: id.By, F: id.F}})
	}
	f.tell(ev)
	return nil
}

func (f *fake) apply(op *crdt.Op, origin crdt.Origin) wire.Change {
	p := crdt.PartitionOf(op.Session)
	v := f.cursors[p].Load().Clone()
	v[origin.ID()]++
	f.cursors[p].Store(&v)
	dot := crdt.Dot{Origin: origin, ID: origin.ID(), Partition: p, F: v[origin.ID()]}
	return wire.Change{Dot: dot, Op: op, Items: crdt.Apply(f.session(op.Session), op, dot)}
}

// arrive applies an op of another region.
func (f *fake) arrive(op *crdt.Op, origin crdt.Origin) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tell(wire.Event{Session: op.Session, Changes: []wire.Change{f.apply(op, origin)}})
}

// quietly applies an op of another region that nobody is told of yet.
func (f *fake) quietly(op *crdt.Op, origin crdt.Origin) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apply(op, origin)
}

// merge takes in another region's copy of a session, which an op is all of.
func (f *fake) merge(op *crdt.Op, origin crdt.Origin) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change := f.apply(op, origin)
	f.tell(wire.Event{Session: op.Session, Merged: true})
	f.tell(wire.Event{Jumps: []crdt.Dot{change.Dot}})
}

func (f *fake) tell(ev wire.Event) {
	for _, fn := range f.watchers {
		fn([]wire.Event{ev})
	}
}

func (f *fake) View(session string, read func(crdt.Store)) error {
	f.mu.Lock()
	st := f.session(session).Clone()
	f.mu.Unlock()
	read(st)
	return nil
}

func (f *fake) Cursors(p uint8) crdt.Vector { return *f.cursors[p].Load() }

func (f *fake) Watch(fn func([]wire.Event)) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	n := f.next
	f.watchers[n] = fn
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, n)
	}
}

func (f *fake) Regions() []wire.RegionInfo {
	return []wire.RegionInfo{{Name: "beijing", URL: "ws://x/v1/connect", State: "up"}}
}

func (f *fake) Reach(crdt.Dot) wire.Reach {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reach
}

func (f *fake) WatchReach(fn func()) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached = append(f.reached, fn)
	f.begun <- struct{}{}
	return func() {} // it does no harm to tell one that has ended
}

func (f *fake) Hasten(partition uint8) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hastened |= 1 << partition
}

// setReach is a peer's acknowledgement.
func (f *fake) setReach(r wire.Reach) {
	f.mu.Lock()
	f.reach = r
	all := slices.Clone(f.reached)
	f.mu.Unlock()
	for _, fn := range all {
		fn()
	}
}

var testKeys = [][]byte{[]byte("0123456789abcdef0123456789abcdef")}

// serve runs a gateway over f until the test ends, and returns its URL.
func serve(t testing.TB, f *fake) (*Gateway, string) {
	t.Helper()
	return serveWith(t, f, Config{})
}

// serveWith is serve with what the configuration says besides.
func serveWith(t testing.TB, f *fake, cfg Config) (*Gateway, string) {
	t.Helper()
	cfg.Region, cfg.Node, cfg.Backend, cfg.Peers, cfg.Auth, cfg.Keys = "beijing", "b1", f, f, Dev{}, testKeys
	cfg.BehindAfter = time.Millisecond
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	handler := g.Handler()
	if strings.HasPrefix(t.Name(), throughEdge) {
		handler = edgeOf(t, g).Handler()
	}
	if strings.HasPrefix(t.Name(), passedOn) {
		handler = passingEdge(t, f, g, cfg).Handler()
	}
	srv := httptest.NewServer(handler)
	<-f.begun
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return g, "ws" + strings.TrimPrefix(srv.URL, "http") + "/v1/connect"
}

// frame is any frame of the server, as loose JSON.
type frame map[string]any

func (f frame) str(k string) string { s, _ := f[k].(string); return s }

// dialed is a client's connection.
type dialed struct {
	t      testing.TB
	ws     *websocket.Conn
	queued []frame
}

func dial(t testing.TB, url string) *dialed {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { ws.CloseNow() })
	return &dialed{t: t, ws: ws}
}

func (d *dialed) say(format string, args ...any) {
	d.t.Helper()
	if err := d.ws.Write(d.t.Context(), websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		d.t.Fatal(err)
	}
}

// hear returns the next frame; err is how the connection ended.
func (d *dialed) hear() (frame, error) {
	for len(d.queued) == 0 {
		ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
		_, b, err := d.ws.Read(ctx)
		cancel()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			var f frame
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			d.queued = append(d.queued, f)
		}
	}
	f := d.queued[0]
	d.queued = d.queued[1:]
	return f, nil
}

// expect skips to the next frame of a type.
func (d *dialed) expect(typ string) frame {
	d.t.Helper()
	for {
		f, err := d.hear()
		if err != nil {
			d.t.Fatalf("waiting for %s: %v", typ, err)
		}
		if f.str("t") == typ {
			return f
		}
	}
}

// hello connects as alice.
func hello(t testing.TB, url string) *dialed {
	t.Helper()
	d := dial(t, url)
	d.say(`{"t":"hello","id":1,"token":"dev:alice","device":"phone"}`)
	d.expect("welcome")
	return d
}

var unixZero = time.UnixMilli(1_700_000_000_000)

func eventOf(ch wire.Change) wire.Event {
	return wire.Event{Session: ch.Op.Session, Changes: []wire.Change{ch}}
}
