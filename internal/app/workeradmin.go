package app

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// workerAdmin is what operators ask of a worker, if it has an --admin-addr. Its address is never public.
type workerAdmin struct {
	ln      net.Listener // nil: nothing is served
	handler http.Handler
}

// newRegistry holds what every process says of itself.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

func listenWorkerAdmin(addr string, reg *prometheus.Registry, ready <-chan struct{}) (*workerAdmin, error) {
	if addr == "" {
		return &workerAdmin{}, nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--admin-addr %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-ready:
			w.Write([]byte("ready\n"))
		default:
			http.Error(w, "not ready: Redis has not been reached yet", http.StatusServiceUnavailable)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return &workerAdmin{ln: ln, handler: mux}, nil
}

func (a *workerAdmin) run(ctx context.Context) error {
	if a.ln == nil {
		return nil
	}
	return serveHTTP(ctx, &http.Server{Handler: a.handler, ReadHeaderTimeout: headerTimeout}, a.ln)
}
