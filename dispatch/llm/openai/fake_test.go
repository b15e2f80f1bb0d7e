package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/roamsync/roam/dispatch/llm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is for what a server that is alive does; waits that are tested are far shorter.
const limit = 20 * time.Second

const testKey = "sk-test-0123456789abcdef"

// upstream is a server of models that behaves as told: each request takes the next of its behaviours, then the last one.
type upstream struct {
	*httptest.Server
	t    *testing.T
	gone chan struct{} // gets one when a hanging request was given up by its client
	end  chan struct{} // closed when the test ends

	mu     sync.Mutex
	script []behaviour
	asked  []request
	raw    []string
	header []http.Header
	path   string
}

type behaviour func(u *upstream, w http.ResponseWriter, r *http.Request)

func serve(t *testing.T, script ...behaviour) *upstream {
	t.Helper()
	u := &upstream{t: t, script: script, gone: make(chan struct{}, 8), end: make(chan struct{})}
	u.Server = httptest.NewServer(u)
	t.Cleanup(func() {
		close(u.end)
		u.Server.Close()
	})
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		u.t.Errorf("request body: %v", err)
	}
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		u.t.Errorf("request %s: %v", body, err)
	}
	u.mu.Lock()
	next := u.script[min(len(u.asked), len(u.script)-1)]
	u.asked, u.raw, u.header, u.path = append(u.asked, req), append(u.raw, string(body)), append(u.header, r.Header), r.URL.Path
	u.mu.Unlock()
	next(u, w, r)
}

func (u *upstream) requests() []request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]request(nil), u.asked...)
}

func (u *upstream) body(i int) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.raw[i]
}

// stream sends raw bytes as an event stream, flushed piece by piece.
func streaming(pieces ...string) behaviour {
	return func(_ *upstream, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		send(w, pieces...)
	}
}

func send(w http.ResponseWriter, pieces ...string) {
	for _, p := range pieces {
		if _, err := io.WriteString(w, p); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
	}
}

// hanging sends pieces, then nothing, until its client or the test has gone.
func hanging(pieces ...string) behaviour {
	return func(u *upstream, w http.ResponseWriter, r *http.Request) {
		streaming(pieces...)(u, w, r)
		select {
		case <-r.Context().Done():
			u.gone <- struct{}{}
		case <-u.end:
		}
	}
}

// dropping sends pieces, then cuts the connection within the body.
func dropping(pieces ...string) behaviour {
	return func(u *upstream, w http.ResponseWriter, r *http.Request) {
		if len(pieces) > 0 {
			streaming(pieces...)(u, w, r)
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			u.t.Errorf("hijack: %v", err)
			return
		}
		conn.Close()
	}
}

// answering sends a status with a body; header is name and value in turns.
func answering(status int, kind, body string, header ...string) behaviour {
	return func(_ *upstream, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// event is a chunk with a delta.
func event(delta string) string {
	return `data: {"choices":[{"index":0,"delta":` + delta + `}]}` + "\n\n"
}

func says(text string) string {
	b, _ := json.Marshal(text)
	return event(fmt.Sprintf(`{"content":%s}`, b))
}

func finish(reason string) string {
	return `data: {"choices":[{"index":0,"delta":{},"finish_reason":"` + reason + `"}],"usage":null}` + "\n\n"
}

const (
	done  = "data: [DONE]\n\n"
	usage = `data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}` + "\n\n"
)

// answer is what a model gave.
type answer struct {
	text   string
	pieces []string
	res    llm.Result
	err    error
	log    string
	reg    *prometheus.Registry
}

// ask asks a model of the server. Its waits between tries are short.
func (u *upstream) ask(job llm.Job, change ...func(*Config)) answer {
	u.t.Helper()
	return u.askIn(u.t.Context(), job, func(string) error { return nil }, change...)
}

func (u *upstream) model(log io.Writer, reg *prometheus.Registry, change ...func(*Config)) *Model {
	u.t.Helper()
	cfg := Config{
		BaseURL: u.URL + "/v1/", APIKey: testKey, FirstToken: limit, Idle: limit, Total: limit, Backoff: time.Microsecond,
		Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: reg,
	}
	for _, c := range change {
		c(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		u.t.Fatal(err)
	}
	return m
}

func (u *upstream) askIn(ctx context.Context, job llm.Job, emit func(string) error, change ...func(*Config)) answer {
	u.t.Helper()
	var log strings.Builder
	a := answer{reg: prometheus.NewRegistry()}
	a.res, a.err = u.model(&log, a.reg, change...).Answer(ctx, job, func(s string) error {
		a.pieces = append(a.pieces, s)
		return emit(s)
	})
	a.text, a.log = strings.Join(a.pieces, ""), log.String()
	for _, shown := range []string{fmt.Sprint(a.err), a.log} {
		if strings.Contains(shown, testKey[:minKeyPart]) {
			u.t.Errorf("the key is shown: %s", shown)
		}
	}
	return a
}

// wants compares an answer.
func (a answer) wants(t *testing.T, text, fin, err string) {
	t.Helper()
	if a.text != text || a.res.Fin != fin && a.err == nil {
		t.Errorf("answered %q, fin %q; want %q, fin %q", a.text, a.res.Fin, text, fin)
	}
	if (err == "") != (a.err == nil) || a.err != nil && !strings.Contains(a.err.Error(), err) {
		t.Errorf("error %v, want %q", a.err, err)
	}
}

func asked(text string) llm.Job { return llm.Job{Session: "u/a", Run: "r1", Model: "m", Prompt: text} }

func errorsIs(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("error %v, want %v", got, want)
	}
}
