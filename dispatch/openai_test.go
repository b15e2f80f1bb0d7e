package dispatch_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/llm/openai"
	"github.com/roamsync/roam/dispatch/worker"
)

// chatServer streams chat completions: it says the last message word by word, breaks at "break", and hangs at "hang".
type chatServer struct {
	t     *testing.T
	asked chan string // bodies
	gone  chan string // gets a line when a hanging request was given up
	end   chan struct{}
}

func newChatServer(t *testing.T) (*chatServer, string) {
	c := &chatServer{t: t, asked: make(chan string, 64), gone: make(chan string, 64), end: make(chan struct{})}
	s := httptest.NewServer(c)
	t.Cleanup(func() {
		close(c.end)
		s.Close()
	})
	return c, s.URL + "/v1"
}

func (c *chatServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var asked struct {
		Messages []struct{ Content string }
	}
	if err := json.Unmarshal(body, &asked); err != nil || len(asked.Messages) == 0 {
		c.t.Errorf("asked %s: %v", body, err)
		return
	}
	c.asked <- string(body)
	w.Header().Set("Content-Type", "text/event-stream")
	for i, word := range strings.Fields(asked.Messages[len(asked.Messages)-1].Content) {
		switch word {
		case "break":
			fmt.Fprint(w, `data: {"error":{"message":"out of memory","code":500}}`+"\n\n")
			return
		case "hang":
			select {
			case <-r.Context().Done():
				c.gone <- "given up"
			case <-c.end:
			}
			return
		}
		if i > 0 {
			word = " " + word
		}
		b, _ := json.Marshal(word)
		fmt.Fprintf(w, `data: {"choices":[{"delta":{"content":%s}}]}`+"\n\n", b)
		_ = http.NewResponseController(w).Flush()
	}
	fmt.Fprint(w, `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
		`data: {"choices":[],"usage":{"total_tokens":7}}`+"\n\ndata: [DONE]\n\n")
}

// TestChatCompletionsAllTheWay: from a put to an answer in the state, over Redis and a server of models.
func TestChatCompletionsAllTheWay(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		server, url := newChatServer(t)
		model, err := openai.New(openai.Config{BaseURL: url, Upstream: map[string]string{"second": "vendor/big"}})
		if err != nil {
			t.Fatal(err)
		}
		r.lead()
		r.work(model, func(c *worker.Config) { c.Models = []string{"first", "second"} })
		r.put("u/a",
			crdt.Op{Kind: crdt.KindSet, OID: "k1", Key: "system", Value: []byte(`"be brief"`)},
			crdt.Op{Kind: crdt.KindSet, OID: "k2", Key: "model", Value: []byte(`"second"`)},
			crdt.Op{Kind: crdt.KindSet, OID: "k3", Key: "temperature", Value: []byte(`0`)})
		s := r.awaitAnswer("u/a", r.ask("u/a", "m1", prompt, "")[0], answer)
		if s.Model != "second" || s.Fin != "end" || string(s.Usage) != `{"total_tokens":7}` {
			t.Errorf("closed as %+v", s)
		}
		run := r.ask("u/a", "m2", "so far break", "")[0]
		s = r.awaitClosed("u/a", run)
		if s.State != crdt.RunFailed || s.Fin != "error" || !strings.Contains(s.Err, "out of memory") || r.text("u/a", run) != "so far" {
			t.Errorf("failed as %+v with %q", s, r.text("u/a", run))
		}
		run = r.ask("u/a", "m3", "wait hang", "first")[0]
		r.awaitHeld("u/a", run, "wait")
		r.put("u/a", crdt.Op{Kind: crdt.KindStop, OID: "s1", Run: run})
		if s = r.awaitClosed("u/a", run); s.State != crdt.RunStopped {
			t.Errorf("stopped as %+v", s)
		}
		r.receive("the request's end", server.gone)

		said, _ := json.Marshal(prompt)
		echoed, _ := json.Marshal(answer)
		for i, want := range []string{
			`{"model":"vendor/big","messages":[{"role":"system","content":"be brief"},{"role":"user","content":` + string(said) + `}],` +
				`"stream":true,"stream_options":{"include_usage":true},"temperature":0}`,
			`{"role":"assistant","content":` + string(echoed) + `},{"role":"user","content":"so far break"}],`,
			`{"model":"first",`,
		} {
			if body := r.receive("a request", server.asked); !strings.Contains(body, want) {
				t.Errorf("request %d: %s\nwant %s", i, body, want)
			}
		}
	})
}
