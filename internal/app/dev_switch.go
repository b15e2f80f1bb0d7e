package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/roamsync/roam/internal/memnet"
)

// devRegion is one region of `roam dev`, which can be killed and started again.
type devRegion struct {
	opts ServeOptions // with the addresses that were taken, so that it comes back on them

	// owned by switcher, and before it by open
	node   *node
	client *cutListener
	cancel context.CancelFunc
	done   chan error // of node.run
}

// flip is a request to kill or start a region.
type flip struct {
	kill  bool
	name  string
	reply chan error // holds one
}

var (
	errNoRegion = errors.New("there is no such region")
	errAlready  = errors.New("it is so already")
)

// switcher kills and starts regions, one at a time, until ctx ends or a region fails by itself. It then waits for all.
func (d *dev) switcher(ctx context.Context) error {
	var errs []error
	for going := true; going; {
		select {
		case <-ctx.Done():
			going = false
		case <-d.failed:
			going = false
		case f := <-d.flips:
			f.reply <- d.flip(ctx, f)
		}
	}
	for _, r := range d.regions {
		if r.node != nil {
			r.cancel()
		}
	}
	for _, r := range d.regions {
		if r.node != nil {
			errs = append(errs, <-r.done)
		}
	}
	return errors.Join(errs...)
}

func (d *dev) flip(ctx context.Context, f flip) error {
	i := slices.IndexFunc(d.regions, func(r *devRegion) bool { return r.opts.Region == f.name })
	switch {
	case i < 0:
		return errNoRegion
	case f.kill != (d.regions[i].node != nil):
		return errAlready
	case f.kill:
		return d.kill(d.regions[i])
	}
	return d.revive(ctx, d.regions[i])
}

// kill ends a region as far as one process can do it without warning: it is cut off from the others and from its clients
// first, so that nothing it might still say gets out; its Redis is gone; its directory stays.
func (d *dev) kill(r *devRegion) error {
	d.isolate(r.opts.Region, memnet.Break)
	r.node.killed.Store(true)
	r.client.cut()
	r.cancel()
	err := <-r.done
	err = errors.Join(err, r.node.close())
	r.node = nil
	d.setUp(r.opts.Region, false)
	return err
}

// revive starts a region again, on what is left of it.
func (d *dev) revive(ctx context.Context, r *devRegion) error {
	d.isolate(r.opts.Region, memnet.Open)
	n, err := d.openNode(r.opts)
	if err != nil {
		return err
	}
	up := d.run(ctx, r, n)
	select {
	case <-up:
		d.setUp(r.opts.Region, true)
		return nil
	case err := <-r.done:
		<-d.failed // it is told here; the others go on
		err = errors.Join(err, r.node.close())
		r.node = nil
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isolate cuts a region off from all others, or lets it back.
func (d *dev) isolate(region string, cut memnet.Cut) {
	for _, other := range d.regions {
		if other.opts.Region != region {
			d.net.CutBoth(region, other.opts.Region, cut)
		}
	}
}

// run runs a region; up is closed when it takes clients. An end that nobody asked for ends `roam dev`.
func (d *dev) run(ctx context.Context, r *devRegion, n *node) (up chan struct{}) {
	ctx, r.cancel = context.WithCancel(ctx)
	up, r.done = make(chan struct{}), make(chan error, 1)
	r.node, r.client = n, newCutListener(n.client)
	n.client = r.client
	done := r.done
	d.running.Go(func() {
		err := n.run(ctx, func() { close(up) })
		if ctx.Err() == nil {
			d.failed <- struct{}{}
			err = fmt.Errorf("region %s: %w", n.opts.Region, err)
		}
		done <- err
	})
	return up
}

func (d *dev) setUp(region string, up bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.up[region] = up
}

// handler is what `roam dev` serves on the client ports beside the protocol: the page, and the switches. They are for whoever
// can reach loopback, but not for pages of other sites.
func (d *dev) handler(page http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.HandleFunc("GET /dev/v1/regions", d.serveRegions)
	mux.HandleFunc("POST /dev/v1/regions/{name}/kill", func(w http.ResponseWriter, r *http.Request) { d.serveFlip(w, r, true) })
	mux.HandleFunc("POST /dev/v1/regions/{name}/start", func(w http.ResponseWriter, r *http.Request) { d.serveFlip(w, r, false) })
	guarded := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(hostPort(r.Host)) { // a name that someone has pointed at loopback
			http.Error(w, "this is served at a loopback address only, not at "+r.Host, http.StatusForbidden)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// hostPort gives a host without a port one.
func hostPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err != nil {
		return net.JoinHostPort(host, "80")
	}
	return host
}

func (d *dev) serveRegions(w http.ResponseWriter, _ *http.Request) {
	type region struct {
		Name  string `json:"name"`
		URL   string `json:"url"`
		State string `json:"state"` // "up" or "killed"
	}
	all := []region{}
	d.mu.Lock()
	for _, r := range d.regions {
		state := "killed"
		if d.up[r.opts.Region] {
			state = "up"
		}
		all = append(all, region{r.opts.Region, r.opts.AdvertiseURL, state})
	}
	d.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(all); err != nil {
		d.log.Debug("regions not sent", "err", err)
	}
}

// serveFlip answers when it is done, unless the region that was asked is the one that is killed.
func (d *dev) serveFlip(w http.ResponseWriter, r *http.Request, kill bool) {
	f := flip{kill: kill, name: r.PathValue("name"), reply: make(chan error, 1)}
	select {
	case d.flips <- f:
	case <-r.Context().Done():
		return
	}
	select {
	case err := <-f.reply:
		switch {
		case errors.Is(err, errNoRegion):
			http.Error(w, err.Error(), http.StatusNotFound)
		case errors.Is(err, errAlready):
			http.Error(w, err.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	case <-r.Context().Done():
	}
}

// cutListener is a listener whose connections can all be ended at once.
type cutListener struct {
	net.Listener

	mu    sync.Mutex
	conns map[*cutConn]struct{}
	ended bool
}

type cutConn struct {
	net.Conn
	l *cutListener
}

func newCutListener(l net.Listener) *cutListener {
	return &cutListener{Listener: l, conns: map[*cutConn]struct{}{}}
}

// Accept implements net.Listener.
func (l *cutListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &cutConn{conn, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// Close implements net.Conn.
func (c *cutConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// cut ends all connections without a word; none is taken any more.
func (l *cutListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for c := range l.conns {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			tcp.SetLinger(0) // a reset, as a host that is gone answers; not a farewell
		}
		c.Conn.Close()
	}
}
