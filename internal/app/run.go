package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// drainTimeout bounds how long a node that was told to stop waits for other regions to have what it has.
	drainTimeout = 5 * time.Second
	drainLook    = 20 * time.Millisecond
	// headerTimeout bounds how long an HTTP client may take to say what it wants.
	headerTimeout = 10 * time.Second
	stopTimeout   = 3 * time.Second
)

// Serve runs `roam serve` until ctx ends; it then drains.
func Serve(ctx context.Context, o ServeOptions, stdout, stderr io.Writer) error {
	keepHeapFloor()
	ring, err := ReadKeyRing(o.SecretFile)
	if err := errors.Join(o.check(), err); err != nil {
		return err
	}
	log := newLogger(stderr, o.LogLevel).With("region", o.Region, "node", o.Node)
	if o.ClockOffset != 0 {
		log = log.With("unsafe_clock_offset", o.ClockOffset)
		log.Warn("this node's clock is shifted: for tests and drills only")
	}
	if o.Gateway {
		e, err := newEdge(o, ring, log)
		if err != nil {
			return err
		}
		return errors.Join(e.run(ctx, func() { printReady(stdout, &e.opts) }), e.close())
	}
	n, err := newNode(o, ring, Machine{}, log)
	if err != nil {
		return err
	}
	err = errors.Join(n.run(ctx, func() { printReady(stdout, &n.opts) }), n.close())
	if why := n.region.Failure(); why != nil {
		return why // all other errors follow from it
	}
	return err
}

func printReady(w io.Writer, o *ServeOptions) {
	fmt.Fprintf(w, "ready region=%s node=%s client=%s\n", o.Region, o.Node, o.ClientAddr)
}

// run works until ctx ends or the node cannot go on. What serves clients stops first, then what keeps their data: in
// between, other regions get the last of it.
func (n *node) run(ctx context.Context, ready func()) error {
	n.ran = true
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	back, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, back := errgroup.WithContext(back)
	n.goBack(back, g, leave)
	g.Go(func() error {
		defer stop()
		front, cancel := context.WithCancel(back)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		served, err := n.serveClients(front, ready)
		if served && err == nil {
			n.drain(back)
		}
		return err
	})
	return n.wait(g, back.Done())
}

// goBack starts what keeps the region's data. It calls leave when the node has left the region for good.
func (n *node) goBack(ctx context.Context, g *errgroup.Group, leave func()) {
	g.Go(func() error { return n.telemetry.Run(ctx) })
	g.Go(func() error { return n.secrets.run(ctx) })
	g.Go(func() error { return n.port.Run(ctx) })
	if n.on.Listen == nil || n.on.Dial == nil {
		g.Go(func() error { return n.peers.Run(ctx) })
	}
	g.Go(func() error { return n.region.Run(ctx) })
	g.Go(func() error { return n.pool.Run(ctx) })
	g.Go(func() error { return n.servePeers(ctx) })
	g.Go(func() error {
		return serveHTTP(ctx, &http.Server{Handler: n.operators(), ReadHeaderTimeout: headerTimeout}, n.admin)
	})
	g.Go(func() error { return n.links.Mirror(ctx) })
	g.Go(func() error { return n.links.Gossip(ctx) })
	g.Go(func() error { return n.takeAside(ctx) })
	g.Go(func() error {
		select {
		case <-n.region.Left():
			leave()
		case <-ctx.Done():
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-n.region.Ready():
			return n.lead(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	if n.worker != nil {
		g.Go(func() error { return n.worker.Run(ctx) })
	}
}

// lead is what only the leaders of the region's groups do, for those groups that this node leads.
func (n *node) lead(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for group := range n.region.Groups() {
		g.Go(func() error {
			return n.region.Lead(ctx, group, func(ctx context.Context) error { return n.leadGroup(ctx, group) })
		})
	}
	return g.Wait()
}

func (n *node) leadGroup(ctx context.Context, group int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.links.Run(ctx, n.region.Partitions(group)) })
	if n.opts.SessionTTL > 0 {
		g.Go(func() error { return n.region.Purge(ctx, group, n.pool) })
	}
	if n.opts.RemovedTTL > 0 {
		g.Go(func() error { return n.region.Expire(ctx, group, n.links) })
	}
	g.Go(func() error { return n.dispatch.ForGroup(uint32(group), n.region.Commits(group)).Run(ctx) })
	return g.Wait()
}

func (n *node) servePeers(ctx context.Context) error {
	// Whoever reads from the region has ended before it is closed.
	srv := grpc.NewServer(append(n.links.ServerOptions(), grpc.WaitForHandlers(true))...)
	n.links.Register(srv)
	n.region.Register(srv)
	peerpb.RegisterDoorServer(srv, n.gateway)
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		if err := n.links.Close(); err != nil {
			n.log.Debug("close links", "err", err)
		}
		srv.Stop()
	})
	defer func() { <-stopped }()
	if err := srv.Serve(n.port.GRPC()); err != nil && ctx.Err() == nil {
		return fmt.Errorf("--peer-addr: %w", err)
	}
	return nil
}

// awaitReady waits until the region knows its state, and membership whom else there is. It reports whether that came about.
func (n *node) awaitReady(ctx context.Context) (bool, error) {
	for _, c := range []<-chan struct{}{n.region.Ready(), n.pool.Joined()} {
		select {
		case <-c:
		case <-ctx.Done():
			return false, nil
		}
	}
	return true, errors.Join(n.region.Strangers(ctx), n.pool.Settle())
}

// serveClients serves clients once the node is ready, and reports whether it came to that.
func (n *node) serveClients(ctx context.Context, ready func()) (served bool, err error) {
	mux := http.NewServeMux()
	mux.Handle("/v1/", n.gateway.Handler())
	if n.page != nil {
		mux.Handle("/", n.page)
	}
	err = n.secrets.front(ctx, n.client, mux, n.awaitReady, func(ctx context.Context) error {
		n.serving.Store(true)
		defer n.serving.Store(false)
		ready()
		served = true
		return n.gateway.Run(ctx)
	})
	return served, err
}

// drain hands the lead to another node of the region, which has all that this one has. The last node waits instead
// until other regions have all that this one has issued, and says how that went.
func (n *node) drain(ctx context.Context) {
	if n.killed.Load() {
		return
	}
	if !n.region.Alone() {
		if err := n.region.StepDown(); err != nil {
			n.log.Warn("nobody takes the lead of the region", "err", err)
		}
		return
	}
	start := time.Now()
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for {
		left := n.notElsewhere()
		if left == 0 || time.Since(start) > drainTimeout {
			n.log.Info("drained", "partitions_not_elsewhere", left, "took", time.Since(start))
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// notElsewhere counts the partitions whose last op is not safe.
func (n *node) notElsewhere() (left int) {
	for p := range uint8(crdt.Partitions) {
		self := n.region.Self(p)
		dot := crdt.Dot{Origin: self, ID: self.ID(), Partition: p}
		if dot.F = n.region.Cursors(p)[dot.ID]; dot.F > 0 && !n.pool.Reach(dot).Safe {
			left++
		}
	}
	return left
}

// serveHTTP serves until ctx ends. Connections that were taken over (WebSockets) are their handler's to end.
func serveHTTP(ctx context.Context, srv *http.Server, ln net.Listener) error {
	stopped := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			srv.Close()
		}
	})()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	<-stopped
	return nil
}
