package openai

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roamsync/roam/dispatch/llm"
)

func TestAnswerIsStreamed(t *testing.T) {
	u := serve(t, streaming(event(`{"role":"assistant","content":""}`), says("h"), says("ü"), says(" 你好"), finish("stop"), usage, done))
	a := u.ask(asked("hi"))
	a.wants(t, "hü 你好", "end", "")
	if len(a.pieces) != 3 || string(a.res.Usage) != `{"prompt_tokens":5,"completion_tokens":2}` {
		t.Errorf("pieces %q, usage %s", a.pieces, a.res.Usage)
	}
	if h := u.header[0]; h.Get("Authorization") != "Bearer "+testKey || u.path != "/v1/chat/completions" {
		t.Errorf("asked %s with %v", u.path, h)
	}
	if r := u.requests()[0]; !r.Stream || r.StreamOptions == nil || !r.StreamOptions.IncludeUsage || r.Model != "m" {
		t.Errorf("asked %+v", r)
	}
}

func TestWhatServersSendIsRead(t *testing.T) {
	for name, c := range map[string]struct {
		sent           string
		text, fin, err string
	}{
		"comments":            {": OPENROUTER PROCESSING\n\n" + strings.Repeat(": beat\n\n", 1000) + says("a") + ":\n\n" + finish("stop") + done, "a", "end", ""},
		"other line ends":     {"data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n" + strings.ReplaceAll(finish("stop")+done, "\n", "\r\n"), "a", "end", ""},
		"empty choices first": {`data: {"choices":[],"prompt_filter_results":[{}]}` + "\n\n" + says("a") + finish("stop") + done, "a", "end", ""},
		"null everywhere":     {`data: {"choices":[{"delta":{"content":"a","tool_calls":null,"function_call":null,"refusal":null},"finish_reason":null}],"error":null,"usage":null}` + "\n\n" + finish("stop"), "a", "end", ""},
		"no DONE":             {says("a") + finish("stop"), "a", "end", ""},
		"reasoning":           {event(`{"reasoning_content":"let me"}`) + event(`{"reasoning":"see"}`) + says("a") + finish("stop"), "a", "end", ""},
		"parts":               {event(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]}`) + finish("stop"), "a", "end", ""},
		"second choice":       {says("a") + `data: {"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":"length"}]}` + "\n\n" + finish("stop"), "a", "end", ""},
		"text after the end":  {says("a") + finish("stop") + says("b") + finish("length"), "a", "end", ""},
		"length":              {says("a") + finish("length"), "a", "length", ""},
		"filter":              {says("a") + finish("content_filter"), "a", "filter", ""},
		"refusal":             {event(`{"refusal":"no"}`) + finish("stop"), "no", "filter", ""},
		"tool":                {says("a") + event(`{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{"}}]}`) + finish("tool_calls"), "a", "tool", ""},
		"tool with stop":      {event(`{"tool_calls":[{"index":0}]}`) + finish("stop"), "", "tool", ""},
		"no tools":            {event(`{"content":"a","tool_calls":[]}`) + finish("eos_token"), "a", "end", ""},
		"function":            {event(`{"function_call":{"name":"f"}}`) + finish("function_call"), "", "tool", ""},
		"given up":            {says("a") + finish("error"), "a", "", "gave the answer up"},
		"only DONE":           {says("a") + done, "a", "", "without a finish_reason"},
		"end of stream":       {says("a") + says("b"), "ab", "", "without a finish_reason"},
		"half an event":       {says("a") + `data: {"choices":[{"del`, "a", "", "without a finish_reason"},
		"no JSON":             {says("a") + "data: hello\n\n", "a", "", "no chunk"},
		"wrong types":         {says("a") + `data: {"choices":"x"}` + "\n\n", "a", "", "no chunk"},
		"error":               {says("a") + `data: {"error":{"message":"CUDA out of memory for ` + testKey + `","code":500}}` + "\n\n" + says("b"), "a", "", `it says: "CUDA out of memory for [key]"`},
		"error text":          {says("a") + `data: {"error":"boom"}` + "\n\n", "a", "", `"boom"`},
		"error object":        {says("a") + `data: {"object":"error","message":"boom"}` + "\n\n", "a", "", `"boom"`},
		"error event":         {says("a") + "event: error\ndata: {\"message\":\"boom\"}\n\n", "a", "", `"boom"`},
		"long event":          {says("a") + "data: " + strings.Repeat("x", maxEvent+1) + "\n\n", "a", "", "more than 1 MiB"},
		"event without end":   {says("a") + strings.Repeat(": "+strings.Repeat("x", 1000)+"\n", 1200), "a", "", "more than 1 MiB"},
		"invalid UTF-8":       {"data: {\"choices\":[{\"delta\":{\"content\":\"a\xff\"}}]}\n\n" + finish("stop"), "a\uFFFD", "end", ""},
		"big event":           {says(strings.Repeat("y", maxEvent/2)) + finish("stop"), strings.Repeat("y", maxEvent/2), "end", ""},
	} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, streaming(c.sent))
			u.ask(asked("hi")).wants(t, c.text, c.fin, c.err)
			if n := len(u.requests()); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestEventsSplitAnywhereAreRead(t *testing.T) {
	whole := ": c\n\n" + says("ü你") + says("😀") + finish("stop") + usage + done
	var pieces []string
	for i := range len(whole) {
		pieces = append(pieces, whole[i:i+1])
	}
	serve(t, streaming(pieces...)).ask(asked("hi")).wants(t, "ü你😀", "end", "")
}

func TestBrokenConnections(t *testing.T) {
	t.Run("in the middle", func(t *testing.T) {
		u := serve(t, dropping(says("a")))
		u.ask(asked("hi")).wants(t, "a", "", "broke in the middle")
		if n := len(u.requests()); n != 1 {
			t.Errorf("asked %d times, although text had come", n)
		}
	})
	t.Run("after the finish_reason", func(t *testing.T) {
		serve(t, dropping(says("a"), finish("stop"))).ask(asked("hi")).wants(t, "a", "end", "")
	})
	t.Run("before any text", func(t *testing.T) {
		u := serve(t, dropping(), dropping(event(`{"role":"assistant"}`)), streaming(event(`{"role":"assistant"}`)), streaming(says("a"), finish("stop")))
		u.ask(asked("hi")).wants(t, "a", "end", "")
		if n := len(u.requests()); n != 4 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestTimeouts(t *testing.T) {
	const short = 500 * time.Millisecond // a machine under load is to get the request through in it
	for name, c := range map[string]struct {
		server         behaviour
		change         func(*Config)
		text, fin, err string
	}{
		"no header": {func(u *upstream, _ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
				u.gone <- struct{}{}
			case <-u.end:
			}
		}, func(c *Config) { c.FirstToken = short }, "", "", "--first-token-timeout"},
		"no token":            {hanging(event(`{"role":"assistant"}`)), func(c *Config) { c.FirstToken = short }, "", "", "--first-token-timeout"},
		"no next token":       {hanging(says("a")), func(c *Config) { c.Idle = short }, "a", "", "--idle-timeout"},
		"none after thoughts": {hanging(event(`{"reasoning_content":"hm"}`)), func(c *Config) { c.Idle = short }, "", "", "--idle-timeout"},
		"endless with text":   {hanging(says("a")), func(c *Config) { c.Total = 3 * time.Second }, "a", "length", ""},
		"endless without":     {hanging(), func(c *Config) { c.Total = short }, "", "", "--answer-timeout"},
		"no end after finish": {hanging(says("a"), finish("stop")), func(c *Config) { c.FirstToken, c.Idle, c.Total = time.Hour, time.Hour, time.Hour }, "a", "end", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, c.server)
			u.ask(asked("hi"), c.change).wants(t, c.text, c.fin, c.err)
			u.awaitGone()
		})
	}
}

// awaitGone waits until the server has noticed that its client has gone.
func (u *upstream) awaitGone() {
	u.t.Helper()
	select {
	case <-u.gone:
	case <-time.After(limit):
		u.t.Error("the request goes on")
	}
}

func TestStopEndsTheRequest(t *testing.T) {
	u := serve(t, hanging(says("a")))
	ctx, cancel := context.WithCancel(t.Context())
	a := u.askIn(ctx, asked("hi"), func(string) error {
		cancel()
		return nil
	})
	errorsIs(t, a.err, context.Canceled)
	u.awaitGone()
	if a.log != "" {
		t.Errorf("a stop was logged: %s", a.log)
	}
	if n := testutil.ToFloat64(counter(t, a, outcomeStopped)); n != 1 {
		t.Errorf("%v stopped requests counted", n)
	}
}

func TestFullAnswerEndsTheRequest(t *testing.T) {
	u := serve(t, func(u *upstream, w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil { // a model that never stops
			streaming(says("abc"))(u, w, r)
		}
		u.gone <- struct{}{}
	})
	n := 0
	a := u.askIn(t.Context(), asked("hi"), func(string) error {
		if n++; n == 1000 {
			return llm.ErrFull
		}
		return nil
	})
	a.wants(t, strings.Repeat("abc", 1000), "length", "")
	u.awaitGone()
}

func TestListenersErrorComesBack(t *testing.T) {
	u := serve(t, hanging(says("a")))
	want := fmt.Errorf("nobody listens")
	a := u.askIn(t.Context(), asked("hi"), func(string) error { return want })
	errorsIs(t, a.err, want)
	u.awaitGone()
}

func TestManyAnswersAtOnce(t *testing.T) {
	u := serve(t, streaming(says("a"), finish("stop"), usage))
	m := u.model(t.Output(), prometheus.NewRegistry())
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if res, err := m.Answer(t.Context(), asked("hi"), func(string) error { return nil }); err != nil || res.Fin != "end" {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
	wg.Wait()
	if n := testutil.ToFloat64(m.met.requests.WithLabelValues(outcomeAnswered)); n != 100 {
		t.Errorf("%v answers counted", n)
	}
}
