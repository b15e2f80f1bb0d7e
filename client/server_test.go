package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// server is the model of regions behind real WebSockets. It answers every question at once with the question's text.
type server struct {
	mu    sync.Mutex
	world *world                // guarded by mu
	conns map[*modelConn]func() // guarded by mu; the value wakes its writer
	greet func(region string) (code int, err string)
	http  *httptest.Server
}

func newServer(regions ...string) *server {
	s := &server{world: newWorld(regions...), conns: map[*modelConn]func(){}}
	s.greet = func(string) (int, string) { return 0, "" }
	s.http = httptest.NewServer(s)
	return s
}

func (s *server) regions() []Region {
	var all []Region
	for _, r := range s.world.regions {
		all = append(all, Region{Name: r, URL: "ws" + strings.TrimPrefix(s.http.URL, "http") + "/" + r})
	}
	return all
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	region := strings.TrimPrefix(r.URL.Path, "/")
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	if code, msg := s.greet(region); code != 0 {
		line, _ := json.Marshal(object{"t": "err", "id": 1, "code": "unauthorized", "msg": msg})
		_ = ws.Write(r.Context(), websocket.MessageText, line)
		_ = ws.Close(websocket.StatusCode(code), msg)
		return
	}
	kick := make(chan struct{}, 1)
	s.mu.Lock()
	conn := s.world.connect(region)
	s.conns[conn] = func() { nudge(kick) }
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	var writer sync.WaitGroup
	writer.Go(func() { s.write(ctx, ws, conn, kick) })
	s.read(ctx, ws, conn)
	cancel()
	writer.Wait()
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
}

func (s *server) read(ctx context.Context, ws *websocket.Conn, conn *modelConn) {
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return
		}
		s.do(func() {
			for line := range bytes.Lines(b) {
				conn.receive(line)
				s.patch(conn)
			}
		})
	}
}

// patch makes a welcome's urls true.
func (s *server) patch(conn *modelConn) {
	for _, f := range conn.out {
		o, ok := f.(object)
		if ok && o["t"] == "welcome" {
			var list []object
			for _, r := range s.regions() {
				list = append(list, object{"name": r.Name, "url": r.URL, "state": "up"})
			}
			o["regions"] = list
		}
	}
}

// do changes the world; then every region hears of all of it, questions are answered, and writers wake.
func (s *server) do(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	for id, ses := range s.world.sessions {
		for _, it := range ses.view(len(ses.events)).log() {
			if it.K == "run" && it.State == "queued" {
				s.answer(id, it)
			}
		}
		for _, r := range s.world.regions {
			ses.has[r] = len(ses.events)
		}
		for conn := range s.conns {
			conn.flush(id)
		}
	}
	for conn, wake := range s.conns {
		conn.safe()
		wake()
	}
}

func (s *server) answer(id string, run *item) {
	ses, region := s.world.session(id), s.world.regions[0]
	s.world.answer(id, region, run.OID, "begin", 0)
	of := ses.view(len(ses.events)).entries[run.Of]
	off := 0
	for word := range strings.SplitAfterSeq(*of.Text, " ") {
		s.world.add(id, region, event{tok: &tokFrame{T: "tok", S: id, Run: run.OID, EP: "0001", Off: uint64(off), D: word}})
		off += len(word)
	}
	s.world.answer(id, region, run.OID, "done", 0)
}

func (s *server) write(ctx context.Context, ws *websocket.Conn, conn *modelConn, kick chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-kick:
		}
		s.mu.Lock()
		out := conn.out
		conn.out = nil
		s.mu.Unlock()
		if len(out) > 0 && ws.Write(ctx, websocket.MessageText, encodeFrames(out)) != nil {
			return
		}
	}
}

func (s *server) close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

func noToken(context.Context) (string, error) { return "dev:alice", nil }

// run starts a client and returns it with what ends it and says how it ended.
func run(t testing.TB, cfg Config) (*Client, func() error) {
	t.Helper()
	if cfg.Token == nil {
		cfg.Token = noToken
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	var once sync.Once
	var result error
	stop := func() error {
		once.Do(func() { cancel(); result = <-ended })
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return c, stop
}

// until waits for a state.
func until(t testing.TB, s *Session, what string, ok func(State) bool) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var last State
	for last = range s.Watch(ctx) {
		if ok(last) {
			return last
		}
	}
	t.Fatalf("no %s: %+v", what, last)
	return last
}
