package app

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/roamsync/roam/dispatch"
)

// line is a writer that passes on what is written to it.
type line chan string

func (l line) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// TestWorkerAdmin: a worker with an --admin-addr says that it lives, when it is ready, and what it does.
func TestWorkerAdmin(t *testing.T) {
	redis, err := dispatch.StartEmbedded("")
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	probe, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	addr := probe.Addr().String()
	probe.Close()
	ctx, cancel := context.WithCancel(t.Context())
	out, done, said := make(line, 1), make(chan error, 1), &bytes.Buffer{}
	o := WorkerOptions{Redis: redis.URL(), Region: "beijing", LLM: "echo", Concurrency: 1, AdminAddr: addr}
	go func() { done <- Worker(ctx, o, out, said) }()
	select {
	case <-out:
	case err := <-done:
		t.Fatal(err, said)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "roam_worker_running_answers 0"} {
		res, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(b), want) {
			t.Errorf("%s: %d, %v: %.200s", path, res.StatusCode, err, b)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWorkerOptionsAreChecked(t *testing.T) {
	good := WorkerOptions{Redis: "redis://127.0.0.1:6379", Region: "beijing", ModelOptions: ModelOptions{Models: []string{"echo"}}, Concurrency: 1}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for flag, spoil := range map[string]func(*WorkerOptions){
		"--admin-addr":    func(o *WorkerOptions) { o.AdminAddr = "8080" },
		"--otlp-endpoint": func(o *WorkerOptions) { o.OTLPEndpoint = "x" },
	} {
		o := good
		spoil(&o)
		if err := o.check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
