package openai

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// counter is one of the counters of an answer's model.
func counter(t *testing.T, a answer, outcome string) prometheus.Counter {
	t.Helper()
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roam_llm_requests_total", Help: "Requests to the model's server, by outcome; each try is one.",
	}, []string{"outcome"})
	var is prometheus.AlreadyRegisteredError
	if err := a.reg.Register(vec); err == nil || !asAlready(err, &is) {
		t.Fatalf("not registered: %v", err)
	}
	return is.ExistingCollector.(*prometheus.CounterVec).WithLabelValues(outcome)
}

func asAlready(err error, into *prometheus.AlreadyRegisteredError) bool {
	is, ok := err.(prometheus.AlreadyRegisteredError)
	*into = is
	return ok
}

const page = "<html><body><h1>nginx</h1></body></html>"

func TestRefusalsSayWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		kind, body string
		header     []string
		want       []string
		reason     string
		tries      int
	}{
		"key":          {401, "application/json", `{"error":{"message":"Incorrect API key provided: sk-test-****cdef.","code":"invalid_api_key"}}`, nil, []string{"--api-key-file", "401", `"Incorrect API key provided: [key]"`}, reasonDenied, 1},
		"key repeated": {403, "application/json", `{"error":"no ` + testKey + ` here"}`, nil, []string{"--api-key-file", "no [key] here"}, reasonDenied, 1},
		"model":        {404, "application/json", `{"error":{"message":"model \"m\" not found, try pulling it first"}}`, nil, []string{"--models", "--base-url", "try pulling"}, reasonUnknown, 1},
		"path":         {404, "text/plain", "404 page not found", nil, []string{"--base-url"}, reasonUnknown, 1},
		"context":      {400, "application/json", `{"error":{"message":"too many","code":"context_length_exceeded"}}`, nil, []string{"--context-tokens"}, reasonRefused, 1},
		"context vllm": {400, "application/json", `{"object":"error","message":"This model's maximum context length is 4096 tokens.","code":400}`, nil, []string{"--context-tokens", "4096"}, reasonRefused, 1},
		"entity":       {413, "text/html", page, nil, []string{"--context-tokens"}, reasonRefused, 1},
		"request":      {422, "application/json", `{"detail":[{"loc":["body"],"msg":"nope"}]}`, nil, []string{"settings", "nope"}, reasonRefused, 1},
		"busy":         {429, "application/json", `{"error":{"message":"slow down"}}`, nil, []string{"--concurrency", "tried 4 times", "slow down"}, reasonBusy, 4},
		"busy long":    {429, "application/json", `{"error":{"message":"slow down"}}`, []string{"Retry-After", "3600"}, []string{"wait for 1h0m0s"}, reasonBusy, 1},
		"quota":        {429, "application/json", `{"error":{"message":"x","type":"insufficient_quota","code":"insufficient_quota"}}`, nil, []string{"billing"}, reasonDenied, 1},
		"failed":       {500, "application/json", `{"error":{"message":"boom"}}`, nil, []string{"500", "log", "boom", "tried 4 times"}, reasonUpstream, 4},
		"proxy":        {502, "text/html", page, nil, []string{"502", "web page", "tried 4 times"}, reasonUpstream, 4},
		"page":         {200, "text/html; charset=utf-8", page, nil, []string{"web page", "--base-url"}, reasonBroken, 1},
		"no stream":    {200, "application/json", `{"choices":[{"message":{"content":"a"}}]}`, nil, []string{"did not stream"}, reasonBroken, 1},
		"moved":        {308, "text/html", page, []string{"Location", "https://elsewhere.example/v1"}, []string{"moved", "--base-url"}, reasonUnknown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, answering(c.status, c.kind, c.body, c.header...))
			a := u.ask(asked("hi"))
			for _, w := range c.want {
				a.wants(t, "", "", w)
			}
			if n := len(u.requests()); n != c.tries {
				t.Errorf("asked %d times, want %d", n, c.tries)
			}
			if n := testutil.ToFloat64(counter(t, a, c.reason)); n != float64(c.tries) {
				t.Errorf("%v counted as %s", n, c.reason)
			}
			if strings.Contains(a.err.Error(), u.URL) || len(a.err.Error()) > 1000 || !strings.Contains(a.log, u.URL) {
				t.Errorf("error %v, log %s: the address is for the log only", a.err, a.log)
			}
		})
	}
}

func TestEndlessRefusalIsCut(t *testing.T) {
	u := serve(t, func(u *upstream, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusInternalServerError)
		for r.Context().Err() == nil {
			send(w, strings.Repeat("x", 1<<10))
		}
		u.gone <- struct{}{}
	})
	u.ask(asked("hi"), func(c *Config) { c.Retries = -1 }).wants(t, "", "", "(500)")
	u.awaitGone()
}

func TestTriesAgainUntilItSucceeds(t *testing.T) {
	busy := answering(429, "application/json", `{"error":{"message":"busy"}}`, "Retry-After-Ms", "1")
	inside := streaming(`data: {"error":{"message":"overloaded","code":503}}` + "\n\n")
	u := serve(t, busy, answering(503, "text/plain", "no"), inside, streaming(says("a"), finish("stop")))
	u.ask(asked("hi")).wants(t, "a", "end", "")
	if n := len(u.requests()); n != 4 {
		t.Errorf("asked %d times", n)
	}
}

func TestNoSecondTryAfterText(t *testing.T) {
	inside := streaming(says("a") + `data: {"error":{"message":"overloaded","code":503}}` + "\n\n")
	u := serve(t, inside, streaming(says("b"), finish("stop")))
	u.ask(asked("hi")).wants(t, "a", "", "overloaded")
	if n := len(u.requests()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestRetriesCanBeTurnedOff(t *testing.T) {
	u := serve(t, answering(500, "text/plain", "no"))
	u.ask(asked("hi"), func(c *Config) { c.Retries = -1 })
	if n := len(u.requests()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestStopEndsTheWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	u := serve(t, func(_ *upstream, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "29")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	waiting := func(c *Config) {
		c.Logger = nil
		c.Backoff = time.Hour
	}
	done := make(chan error, 1)
	m := u.model(nil, prometheus.NewRegistry(), waiting)
	go func() {
		_, err := m.Answer(ctx, asked("hi"), func(string) error { return nil })
		done <- err
	}()
	for ticks := time.NewTicker(time.Millisecond); testutil.ToFloat64(m.met.requests.WithLabelValues(reasonBusy)) < 1; <-ticks.C {
	}
	cancel()
	errorsIs(t, <-done, context.Canceled)
}

func TestServersThatCannotBeReached(t *testing.T) {
	u := serve(t, streaming())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := closed.Addr().String()
	closed.Close()
	for base, want := range map[string]string{
		"http://" + addr: "check that it runs",
		strings.Replace(u.URL, "http", "https", 1): "does not speak TLS",
	} {
		a := u.ask(asked("hi"), func(c *Config) { c.BaseURL, c.Retries = base, 1 })
		a.wants(t, "", "", want)
		if strings.Contains(a.err.Error(), "127.0.0.1") || !strings.Contains(a.log, "127.0.0.1") {
			t.Errorf("error %v, log %s: the address is for the log only", a.err, a.log)
		}
	}
}

func TestDialects(t *testing.T) {
	reject := func(field string) behaviour {
		return answering(400, "application/json", `{"error":{"message":"Unsupported parameter: '`+field+`' is not supported with this model."}}`)
	}
	ok := streaming(says("a"), finish("stop"))
	u := serve(t, reject("stream_options"), reject("max_tokens"), ok, ok, reject("max_completion_tokens"))
	m := u.model(t.Output(), prometheus.NewRegistry(), func(c *Config) { c.Upstream = map[string]string{"m": "big"} })
	job := asked("hi")
	job.Settings = raw("max_tokens", `7`)
	for range 2 {
		if _, err := m.Answer(t.Context(), job, func(string) error { return nil }); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Answer(t.Context(), job, func(string) error { return nil }); err == nil {
		t.Error("refused both ways, and no error")
	}
	var seen []string
	for _, r := range u.requests() {
		seen = append(seen, fmt.Sprint(r.Model, r.StreamOptions != nil, r.MaxTokens != nil, r.MaxCompletionTokens != nil))
	}
	want := "big true true false|big false true false|big false false true|" + // learning
		"big false false true|" + // learnt
		"big false false true|big false true false" // once each
	for i := range seen {
		seen[i] = strings.ReplaceAll(strings.ReplaceAll(seen[i], "bigtrue", "big true"), "bigfalse", "big false")
	}
	if got := strings.Join(seen, "|"); got != want {
		t.Errorf("asked\n%s, want\n%s", got, want)
	}
}

func TestWaitsAreJitteredAndHonourTheServer(t *testing.T) {
	m := &Model{cfg: Config{Backoff: 100 * time.Millisecond}}
	for tries, bound := range map[int]time.Duration{1: 100 * time.Millisecond, 3: 400 * time.Millisecond, 11: maxBackoff} {
		low, high := bound, time.Duration(0)
		for range 1000 {
			d := m.delay(tries, 0)
			low, high = min(low, d), max(high, d)
		}
		if low > bound/4 || high > bound || high < bound*3/4 {
			t.Errorf("after %d tries: %v to %v, want 0 to %v", tries, low, high, bound)
		}
		if d := m.delay(tries, time.Minute); d < time.Minute || d > time.Minute+bound {
			t.Errorf("after %d tries: %v, asked for a minute", tries, d)
		}
	}
}

func TestRetryAfterIsRead(t *testing.T) {
	now := time.Date(2026, 11, 23, 16, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "7", 7 * time.Second}, {"Retry-After", "0.5", time.Second / 2}, {"Retry-After", "-3", 0}, {"Retry-After", "soon", 0},
		{"Retry-After", "NaN", 0}, {"Retry-After", "1e300", 24 * time.Hour}, {"Retry-After-Ms", "250", 250 * time.Millisecond},
		{"Retry-After", "Mon, 23 Nov 2026 16:00:09 GMT", 9 * time.Second}, {"Retry-After", "Mon, 23 Nov 2026 15:00:00 GMT", 0}, {"X", "", 0},
	} {
		h := http.Header{}
		h.Set(c.name, c.value)
		if got := retryAfter(h, now); got != c.want {
			t.Errorf("%s: %s is %v, want %v", c.name, c.value, got, c.want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, base := range []string{"", "x", "ftp://h/v1", "http://", "https://user:pw@h/v1", "https://h/v1?key=1"} {
		if _, err := New(Config{BaseURL: base}); err == nil || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v", base, err)
		}
	}
	_, err := New(Config{BaseURL: "http://h", APIKey: "a\nb", ContextTokens: 1, Idle: -1, Retries: 99})
	for _, want := range []string{"API key", "context tokens", "timeouts", "retries"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	reg := prometheus.NewRegistry()
	if _, err := New(Config{BaseURL: "http://h", Registerer: reg}); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}
