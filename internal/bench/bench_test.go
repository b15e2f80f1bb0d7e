package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a region of one session after another, kept in memory, with faults that a test plants.
type server struct {
	*httptest.Server
	fault func(oid string) string // "", "lose", "double", "refuse", "busy" or "cut"

	mu       sync.Mutex
	sessions map[string]*fakeSession
	met      map[string]bool // oids whose fault has happened
}

type fakeSession struct {
	log   []map[string]any
	conns map[*websocket.Conn]struct{}
}

func newServer(t *testing.T, fault func(oid string) string) *server {
	s := &server{fault: fault, sessions: map[string]*fakeSession{}, met: map[string]bool{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocol}})
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		s.serve(ws)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) url() string { return "ws" + strings.TrimPrefix(s.URL, "http") }

// serve takes one connection's frames. All that is sent is sent under the server's lock: what tests need is order.
func (s *server) serve(ws *websocket.Conn) {
	ctx := context.Background()
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			s.leave(ws)
			return
		}
		var f struct {
			T, S string
			ID   int
			Open []struct{ S, Cur string }
			Ops  []map[string]any
		}
		if json.Unmarshal(b, &f) != nil {
			return
		}
		s.mu.Lock()
		switch f.T {
		case "hello":
			name := f.Open[0].S
			if s.sessions[name] == nil {
				s.sessions[name] = &fakeSession{conns: map[*websocket.Conn]struct{}{}}
			}
			s.sessions[name].conns[ws] = struct{}{}
			say(ws, map[string]any{"t": "welcome", "id": 1})
			say(ws, map[string]any{"t": "snap", "s": name, "cur": "c", "log": s.sessions[name].log, "more": false})
		case "put":
			if !s.put(ws, f.ID, s.sessions[f.S], f.Ops[0]) {
				s.mu.Unlock()
				s.leave(ws)
				return
			}
		}
		s.mu.Unlock()
	}
}

func (s *server) leave(ws *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fs := range s.sessions {
		delete(fs.conns, ws)
	}
}

// put commits an op, or does what was planted; false ends the connection.
func (s *server) put(ws *websocket.Conn, id int, fs *fakeSession, op map[string]any) bool {
	oid, fault := op["oid"].(string), ""
	if !s.met[oid] {
		s.met[oid] = true
		fault = s.fault(oid)
	}
	switch fault {
	case "cut":
		return false
	case "refuse":
		say(ws, map[string]any{"t": "err", "id": id, "code": "conflict", "msg": "planted"})
		return true
	case "busy":
		say(ws, map[string]any{"t": "err", "id": id, "code": "unavailable", "msg": "planted", "retry": 10})
		return true
	}
	op["seq"], op["at"] = len(fs.log)+1, "here.1"
	if fault != "lose" {
		fs.log = append(fs.log, op)
	}
	times := map[string]int{"": 1, "lose": 1, "double": 2}[fault]
	for c := range fs.conns {
		for range times {
			if c != ws {
				say(c, map[string]any{"t": "delta", "cur": "c", "ops": []any{op}})
			}
		}
	}
	say(ws, map[string]any{"t": "ok", "id": id, "cur": "c", "safe": true})
	return true
}

func say(ws *websocket.Conn, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	ws.Write(context.Background(), websocket.MessageText, b) // whoever has gone is noticed by its reader
}

func config(url string) Config {
	return Config{
		URLs: []string{url}, Token: func(user string) (string, error) { return "dev:" + user, nil },
		Connections: 6, Devices: 2, Rate: 600, Duration: 300 * time.Millisecond, Payload: 20, Mix: Mix{100}, Seed: 1,
	}
}

// TestCheckerFindsWhatIsPlanted: a healthy server is found to be one, and each fault of another is found for what it is.
func TestCheckerFindsWhatIsPlanted(t *testing.T) {
	for _, c := range []struct{ fault, says string }{
		{"", ""}, {"busy", ""}, {"cut", ""}, {"refuse", ""},
		{"lose", "lost"}, {"double", "doubled"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(oid string) string {
				if strings.HasSuffix(oid, "-5") {
					return c.fault
				}
				return ""
			})
			r, err := Run(t.Context(), config(s.url()))
			if err != nil {
				t.Fatal(err)
			}
			if wrong := r.Wrong(); (wrong == "") != (c.says == "") || !strings.Contains(wrong, c.says) {
				t.Errorf("found %q, want %q", wrong, c.says)
			}
			if r.Sent < 60 || r.Acked+r.Errors["conflict"] != r.Sent {
				t.Errorf("%d sent, %d acknowledged, errors %v", r.Sent, r.Acked, r.Errors)
			}
			if again := c.fault == "busy" || c.fault == "cut"; again != (r.Retried > 0) || (c.fault == "cut") != (r.Reconnects > 0) {
				t.Errorf("%d sent again, %d reconnects", r.Retried, r.Reconnects)
			}
			for what, l := range r.Latencies {
				if l.Count == 0 || l.P50 <= 0 || l.P50 > l.Max {
					t.Errorf("%s: %+v", what, l)
				}
			}
			var table bytes.Buffer
			if err := r.Print(&table); err != nil || !strings.Contains(table.String(), "put → other device") {
				t.Errorf("the table is %v:\n%s", err, table.String())
			}
		})
	}
}

// TestLedger: what only a region that goes wrong in a certain way would show.
func TestLedger(t *testing.T) {
	c := Config{Duration: time.Hour}
	count := newCounts(&c)
	l := newLedger(2, count)
	now := time.Now()
	l.begin(now)
	for range 3 {
		l.ok(l.send(0, 0, kindPut), now.Add(time.Millisecond))
	}
	show := func(n int, seq uint64, snap bool) {
		l.show(1, &item{K: "msg", OID: ref{0, n}.oid(), Seq: seq, At: "a"}, snap, now)
	}
	show(1, 2, false)
	show(0, 1, false) // after a later one of the same sender
	if got := count.disordered.Load(); got != 1 {
		t.Errorf("%d out of order", got)
	}
	show(1, 5, false) // moved: allowed
	show(1, 5, true)  // a snap shows all again
	if got := count.doubled.Load(); got != 0 {
		t.Errorf("%d doubled", got)
	}
	show(1, 5, false)
	if got := count.doubled.Load(); got != 1 {
		t.Errorf("%d doubled", got)
	}
	show(7, 9, false)
	if got := count.unknown.Load(); got != 1 {
		t.Errorf("%d unknown", got)
	}
	if got := l.open(); got != 1 { // the third was not shown
		t.Errorf("%d open", got)
	}
	ask := l.send(1, 0, kindChat)
	l.ok(ask, now)
	if got := l.unended(1); got != 1 {
		t.Errorf("%d answers have not ended", got)
	}
	l.show(1, &item{K: "run", OID: "r", Of: ask.oid(), State: "running"}, false, now)
	l.token(1, "r", now)
	l.show(1, &item{K: "run", OID: "r", Of: ask.oid(), State: "done"}, false, now)
	if got := l.unended(1); got != 0 || count.answers["done"] != 1 {
		t.Errorf("%d answers have not ended, %v have", got, count.answers)
	}
	l.hold([]item{{K: "msg", OID: "1-0"}, {K: "msg", OID: "0-0"}, {K: "msg", OID: "0-1"}, {K: "msg", OID: "0-1"}})
	if lost, doubled, unseen := count.lost.Load(), count.doubled.Load(), count.unseen.Load(); lost != 1 || doubled != 2 || unseen != 2 {
		t.Errorf("%d lost, %d doubled, %d unseen", lost, doubled, unseen)
	}
}

// TestAchievedIsInTime: what has its ok only after the load is over was not kept up with, and the warm-up is no part.
func TestAchievedIsInTime(t *testing.T) {
	cfg := Config{Warmup: time.Second, Duration: 9 * time.Second}
	b := &run{cfg: cfg, count: newCounts(&cfg)}
	for _, due := range []time.Duration{0, time.Second, 5 * time.Second, 9 * time.Second} {
		if b.count.measured(due) {
			b.count.offered.Add(1)
		}
		b.count.ok(kindPut, due, 2*time.Second)
	}
	r := b.report(0, 10*time.Second, time.Now())
	if r.Acked != 4 || r.Offered*9 != 3 || r.Achieved*9 != 2 {
		t.Errorf("%d ok, offered %v/s, achieved %v/s", r.Acked, r.Offered, r.Achieved)
	}
}

// TestScheduleIsOpenLoop: it is the same for a seed, has the rate that was asked for, and the mix.
func TestScheduleIsOpenLoop(t *testing.T) {
	for _, constant := range []bool{false, true} {
		c := Config{Connections: 10, Rate: 1000, Constant: constant, Mix: Mix{50, 30, 20}, Seed: 7}
		var n, same int
		var byKind [kinds]int
		for i := range c.Connections {
			a, b := newSchedule(&c, i), newSchedule(&c, i)
			for last := time.Duration(0); ; {
				at, k := a.next()
				if at2, k2 := b.next(); at == at2 && k == k2 {
					same++
				}
				if at < last {
					t.Fatal("time goes back")
				}
				if last = at; at >= 10*time.Second {
					break
				}
				n++
				byKind[k]++
			}
		}
		if n < 9_500 || n > 10_500 || same != n+c.Connections {
			t.Errorf("constant %t: %d ops in 10 s, want about 10000; %d are the same again", constant, n, same)
		}
		for k, share := range c.Mix {
			if got := 100 * byKind[k] / n; got < share-4 || got > share+4 {
				t.Errorf("%s: %d %%, want %d", kindNames[k], got, share)
			}
		}
	}
}

func TestMixAndLimitsAreChecked(t *testing.T) {
	if m, err := ParseMix("put=90,read=5,set=5"); err != nil || m != (Mix{90, 5, 5}) || m.String() != "put=90,set=5,read=5" {
		t.Errorf("%v, %v", m, err)
	}
	if m, err := ParseMix("chat"); err != nil || m != (Mix{kindChat: 100}) {
		t.Errorf("%v, %v", m, err)
	}
	for _, bad := range []string{"", "put", "put=x", "put=50", "push=100", "put=200,set=-100"} {
		if _, err := ParseMix(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for what, spoil := range map[string]func(*Config){
		"connections": func(c *Config) { c.Connections = 0 }, "devices": func(c *Config) { c.Devices = 4 },
		"rate": func(c *Config) { c.Rate = 0 }, "URL": func(c *Config) { c.URLs = []string{"http://x"} },
		"payload": func(c *Config) { c.Payload = 1 << 20 }, "duration": func(c *Config) { c.Duration = 0 },
		"warmup": func(c *Config) { c.Warmup = -1 },
	} {
		c := config("ws://127.0.0.1:1")
		spoil(&c)
		if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestRefusedAtTheDoor: a token that is not taken ends the run, in the server's words.
func TestRefusedAtTheDoor(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocol}})
		if err != nil {
			return
		}
		say(ws, map[string]any{"t": "err", "id": 1, "code": "unauthorized", "msg": "no such key"})
		ws.Close(4500, "")
	}))
	defer s.Close()
	if _, err := Run(t.Context(), config("ws"+strings.TrimPrefix(s.URL, "http"))); err == nil || !strings.Contains(err.Error(), "no such key") {
		t.Errorf("it ended with %v", err)
	}
}

// TestEndsEarly: when it is told to stop it reports what there is.
func TestEndsEarly(t *testing.T) {
	s := newServer(t, func(string) string { return "" })
	c := config(s.url())
	c.Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	var said lines
	c.Progress, c.Every = &said, 20*time.Millisecond
	said.then = cancel
	r, err := Run(ctx, c)
	if err != nil || r.Wrong() != "" || r.Acked == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// lines calls then when progress shows that something was acknowledged.
type lines struct{ then func() }

func (l *lines) Write(b []byte) (int, error) {
	var ok int
	if i := strings.Index(string(b), " sent, "); i > 0 {
		fmt.Sscanf(string(b[i+len(" sent, "):]), "%d", &ok)
	}
	if ok > 0 {
		l.then()
	}
	return len(b), nil
}
