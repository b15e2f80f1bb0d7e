package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

type object map[string]any

// fake is one session in two regions that are always of one mind: a list of frames, which every connection is sent
// in order from where its token says.
type fake struct {
	mu     sync.Mutex
	frames []fakeFrame           // guarded by mu
	places map[string]any        // oid -> where it stands; guarded by mu
	seq    int                   // guarded by mu
	more   chan struct{}         // closed at the next frame; guarded by mu
	fault  func(object) []object // what becomes of a frame on its way to a recorder
	work   sync.WaitGroup
	http   *httptest.Server
	word   time.Duration
}

type fakeFrame struct {
	object
	by *fakeConn
}

type fakeConn struct {
	ws       *websocket.Conn
	mu       sync.Mutex // one writer at a time
	region   string
	recorder bool
	follows  sync.WaitGroup
}

func newFake() *fake {
	f := &fake{places: map[string]any{}, more: make(chan struct{}), word: 4 * time.Millisecond}
	f.fault = func(o object) []object { return []object{o} }
	f.http = httptest.NewServer(f)
	return f
}

func (f *fake) close() {
	f.http.CloseClientConnections()
	f.http.Close()
	f.work.Wait()
}

func (f *fake) regions() []Region {
	base := "ws" + strings.TrimPrefix(f.http.URL, "http")
	return []Region{{"beijing", base + "/beijing"}, {"shanghai", base + "/shanghai"}}
}

func (f *fake) add(by *fakeConn, o object) {
	f.frames = append(f.frames, fakeFrame{o, by})
	close(f.more)
	f.more = make(chan struct{})
}

func (c *fakeConn) send(ctx context.Context, o object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, _ := json.Marshal(o)
	_ = c.ws.Write(ctx, websocket.MessageText, b)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"roam.v1.json"}, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	c := &fakeConn{ws: ws, region: strings.TrimPrefix(r.URL.Path, "/")}
	ctx, cancel := context.WithCancel(r.Context())
	defer c.follows.Wait()
	defer cancel()
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return
		}
		for line := range bytes.Lines(b) {
			f.receive(ctx, c, line)
		}
	}
}

type fakeIn struct {
	T, S, Cur, Device string
	ID                int
	Open              []struct{ S, Cur string }
	Ops               []object
}

func (f *fake) receive(ctx context.Context, c *fakeConn, line []byte) {
	var in fakeIn
	_ = json.Unmarshal(line, &in)
	switch in.T {
	case "hello":
		c.recorder = in.Device == "recorder"
		c.send(ctx, object{"t": "welcome", "id": in.ID, "user": "alice", "region": c.region, "exp": 0, "max": object{}, "regions": []any{}})
		for _, o := range in.Open {
			f.open(ctx, c, in.ID, o.S, o.Cur)
		}
	case "put":
		f.put(c, in)
	}
}

func (f *fake) open(ctx context.Context, c *fakeConn, id int, s, cur string) {
	n, _ := strconv.Atoi(cur)
	if cur == "" {
		c.send(ctx, object{"t": "snap", "id": id, "s": s, "cur": "0", "map": object{}, "read": object{}, "log": []any{}, "more": false, "why": "new"})
	} else {
		c.send(ctx, object{"t": "delta", "id": id, "s": s, "cur": cur, "ops": []any{}})
	}
	c.follows.Go(func() { f.follow(ctx, c, s, n) })
}

// follow sends every frame from n on.
func (f *fake) follow(ctx context.Context, c *fakeConn, s string, n int) {
	for {
		f.mu.Lock()
		var next []fakeFrame
		next, more := append(next, f.frames[n:]...), f.more
		f.mu.Unlock()
		for _, fr := range next {
			n++
			o := object{"s": s, "cur": strconv.Itoa(n)}
			for k, v := range fr.object {
				o[k] = v
			}
			switch {
			case c.recorder && o["t"] == "ok":
			case c.recorder:
				for _, o := range f.fault(o) {
					c.send(ctx, o)
				}
			case (o["t"] == "ok") == (fr.by == c):
				c.send(ctx, o)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-more:
		}
	}
}

func (f *fake) put(c *fakeConn, in fakeIn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var at []any
	for _, op := range in.Ops {
		oid := op["oid"].(string)
		if f.places[oid] == nil {
			f.accept(c, op, oid)
		}
		at = append(at, f.places[oid])
	}
	f.add(c, object{"t": "ok", "id": in.ID, "at": at, "regions": 1, "safe": true})
}

func (f *fake) accept(c *fakeConn, op object, oid string) {
	if op["k"] == "set" {
		op["hlc"], op["user"] = fmt.Sprintf("%08d", len(f.frames)), "alice"
		f.places[oid] = object{"oid": oid, "hlc": op["hlc"]}
		f.add(c, object{"t": "delta", "ops": []any{op}})
		return
	}
	f.seq++
	place := object{"oid": oid, "seq": f.seq, "at": "beijing.1"}
	f.places[oid] = place
	entry := object{"k": "msg", "user": "alice", "role": "user", "text": op["text"], "ts": 1}
	for k, v := range place {
		entry[k] = v
	}
	f.add(c, object{"t": "delta", "ops": []any{entry}})
	if op["run"] != nil {
		f.seq++
		seq := f.seq
		f.work.Go(func() { f.answer(oid, seq, op["text"].(string)) })
	}
}

func (f *fake) answer(of string, seq int, prompt string) {
	run := object{"k": "run", "oid": "run-" + of, "seq": seq, "at": "beijing.1", "of": of, "model": "echo", "state": "running", "ep": "1", "text": ""}
	f.step(object{"t": "delta", "ops": []any{run}})
	text := ""
	for i, w := range strings.Fields(prompt) {
		if i > 0 {
			w = " " + w
		}
		<-time.NewTimer(f.word).C
		f.step(object{"t": "tok", "run": "run-" + of, "ep": "1", "off": len(text), "d": w})
		text += w
	}
	sum := sha256.Sum256([]byte(text))
	done := object{"len": len(text), "sum": hex.EncodeToString(sum[:8]), "fin": "end"}
	for k, v := range run {
		done[k] = v
	}
	delete(done, "text")
	done["state"] = "done"
	f.step(object{"t": "delta", "ops": []any{done}})
}

func (f *fake) step(o object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(nil, o)
}
