package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch"
	"github.com/roamsync/roam/wire"
)

func modelOptions(url string, models ...string) ModelOptions {
	return ModelOptions{
		Models: models, BaseURL: url, ContextTokens: 8192, FirstTokenTimeout: time.Minute, IdleTimeout: time.Minute,
		AnswerTimeout: time.Minute, Retries: 1,
	}
}

func TestServeAnswersFromAServerOfModels(t *testing.T) {
	keys := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"hello"},"finish_reason":"stop"}]}`+"\n\n")
	}))
	t.Cleanup(server.Close)
	w := newWorld(t)
	o := w.options("beijing", t.TempDir())
	o.Worker, o.ModelOptions = openaiWorker, modelOptions(server.URL+"/v1", "chat=big")
	o.APIKey = "from-the-environment"
	w.startWith("beijing", o, w.ring)
	n := w.nodes["beijing"]

	op := &crdt.Op{Kind: crdt.KindMsg, Session: session, OID: "m1", User: "alice", Role: "user", Text: "hi", Models: []string{"chat"}}
	if err := n.region.Submit(&wire.Put{Session: session, Ops: []*crdt.Op{op}, Fail: func(err error) { t.Error(err) }}); err != nil {
		t.Fatal(err)
	}
	run := crdt.RunID("m1", "chat", "0")
	var e *crdt.Entry
	w.until("the answer is there", func() bool {
		if err := n.region.View(session, func(st crdt.Store) { e, _ = crdt.View(st, run) }); err != nil {
			t.Fatal(err)
		}
		return e != nil && e.Run.State.Closed()
	})
	if e.Run.State != crdt.RunDone || e.Run.Len != uint64(len("hello")) || e.Run.Model != "chat" {
		t.Errorf("answered %+v", e.Run)
	}
	if key := <-keys; key != "Bearer from-the-environment" {
		t.Errorf("sent the key %q", key)
	}
}

func TestWorkerSaysThatItIsReady(t *testing.T) {
	redis, err := dispatch.StartEmbedded("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	for _, kind := range []string{echoWorker, openaiWorker} {
		ctx, cancel := context.WithCancel(t.Context())
		out, says := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			err := Worker(ctx, WorkerOptions{
				Redis: redis.URL(), Region: "beijing", LLM: kind, Concurrency: 1, ModelOptions: modelOptions("http://127.0.0.1:1/v1", "m"),
			}, says, t.Output())
			says.CloseWithError(fmt.Errorf("ended: %w", err))
			ended <- err
		}()
		line := make([]byte, 100)
		if n, err := out.Read(line); string(line[:n]) != "ready worker region=beijing\n" {
			t.Errorf("%s said %q, %v", kind, line[:n], err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestModelOptionsAreChecked(t *testing.T) {
	dir := t.TempDir()
	empty, spaced := filepath.Join(dir, "empty"), filepath.Join(dir, "spaced")
	for file, key := range map[string]string{empty: "\n", spaced: "a b\n"} {
		if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for want, change := range map[string]func(*WorkerOptions){
		"--models is required":                   func(o *WorkerOptions) { o.Models = nil },
		`--models "=x"`:                          func(o *WorkerOptions) { o.Models = []string{"=x"} },
		`--models "x="`:                          func(o *WorkerOptions) { o.Models = []string{"x="} },
		`"twice" is empty, too long`:             func(o *WorkerOptions) { o.Models = []string{"twice", "twice=x"} },
		"--base-url chat.example":                func(o *WorkerOptions) { o.BaseURL = "chat.example" },
		"--api-key-file: open":                   func(o *WorkerOptions) { o.APIKeyFile = filepath.Join(dir, "none") },
		"--api-key-file " + empty + ": it is":    func(o *WorkerOptions) { o.APIKeyFile = empty },
		"--api-key-file " + spaced + ": API key": func(o *WorkerOptions) { o.APIKeyFile = spaced },
		"OPENAI_API_KEY: API key":                func(o *WorkerOptions) { o.APIKey = "a b" },
		"--context-tokens 255":                   func(o *WorkerOptions) { o.ContextTokens = 255 },
		"--first-token-timeout 0s":               func(o *WorkerOptions) { o.FirstTokenTimeout = 0 },
		"--idle-timeout -1s":                     func(o *WorkerOptions) { o.IdleTimeout = -time.Second },
		"--answer-timeout 0s":                    func(o *WorkerOptions) { o.AnswerTimeout = 0 },
		"--retries 11":                           func(o *WorkerOptions) { o.Retries = 11 },
		"--concurrency 0":                        func(o *WorkerOptions) { o.Concurrency = 0 },
	} {
		o := WorkerOptions{
			Redis: "redis://127.0.0.1:1", Region: "beijing", LLM: openaiWorker, Concurrency: 1, ModelOptions: modelOptions("http://127.0.0.1:1/v1", "m"),
		}
		change(&o)
		var out bytes.Buffer
		if err := Worker(t.Context(), o, &out, t.Output()); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%v, said %q, want %s", err, &out, want)
		}
	}
}

func TestKeyIsTakenFromItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("sk-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]ModelOptions{
		"sk-file": {APIKeyFile: file, APIKey: "sk-env"}, "sk-env": {APIKey: "sk-env"}, "": {},
	} {
		if got, err := o.key(); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}
