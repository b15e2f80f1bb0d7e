package app

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// gate is what clients meet at a node's address. The address is taken when the process starts: who comes before the node is ready would wait, with a
// connection that says nothing, while other nodes could serve it. So it is told at once to go there.
type gate struct{ behind atomic.Pointer[http.Handler] }

// open lets clients in.
func (g *gate) open(h http.Handler) { g.behind.Store(&h) }

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := g.behind.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, "this node is starting, and takes no clients yet: try another node, or come back", http.StatusServiceUnavailable)
}

// front serves clients until ctx ends: first the gate alone, and what is behind it once prepared has returned true.
func (s *secrets) front(ctx context.Context, ln net.Listener, behind http.Handler, prepared func(context.Context) (bool, error), serve func(context.Context) error) error {
	door := &gate{}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveHTTP(ctx, s.server(door), s.listener(ln)) })
	g.Go(func() error {
		if ok, err := prepared(ctx); !ok || err != nil {
			return err
		}
		door.open(behind)
		return serve(ctx)
	})
	return g.Wait()
}
