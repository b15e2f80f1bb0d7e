package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/gateway"
	"github.com/roamsync/roam/internal/clock"
	"github.com/roamsync/roam/internal/congestion"
	"github.com/roamsync/roam/replication"
	"github.com/roamsync/roam/wire/peerpb"
)

// edge is a node that holds no data: it has clients' sockets, and serves them through the region's nodes that do.
type edge struct {
	desk
	opts          ServeOptions
	log           *slog.Logger
	client, admin net.Listener
	secrets       *secrets
	clock         *clock.Clock
	peers         *congestion.Control
	pool          *replication.Pool
	conns         *replication.Conns
	gateway       *gateway.Edge
	ran           bool // run releases the pool
}

// newEdge opens everything that can fail. Errors name the flag.
func newEdge(o ServeOptions, ring KeyRing, log *slog.Logger) (_ *edge, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	e := &edge{desk: desk{reg: newRegistry()}, opts: o, log: log}
	e.why = func() string { return "no node of the region that holds data takes clients, or this one is going away" }
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	e.clock = clock.New(clock.Config{Machine: o.machineClock(), Logger: log, Metrics: e.reg})
	if e.secrets, err = openSecrets(&e.opts, ring, e.reg, e.clock.Machine, log); err != nil {
		return nil, err
	}
	if e.client, err = net.Listen("tcp", o.ClientAddr); err != nil {
		return nil, fmt.Errorf("--client-addr %s: %w", o.ClientAddr, err)
	}
	if e.admin, err = net.Listen("tcp", o.AdminAddr); err != nil {
		return nil, fmt.Errorf("--admin-addr %s: %w", o.AdminAddr, err)
	}
	e.opts.ClientAddr, e.opts.AdminAddr = e.client.Addr().String(), e.admin.Addr().String()
	if e.opts.AdvertiseURL == "" {
		e.opts.AdvertiseURL = e.opts.scheme() + e.opts.ClientAddr + "/v1/connect"
	}
	if err := e.join(*e.secrets.ring.Load()); err != nil {
		return nil, err
	}
	e.secrets.rekey = e.rekey
	auth, err := e.opts.auth(e.clock.Machine)
	if err != nil {
		return nil, err
	}
	e.gateway, err = gateway.NewEdge(gateway.EdgeConfig{Doors: e, Auth: auth, Logger: log, Metrics: e.reg})
	return e, err
}

// join makes the edge a member of the pool. It has no address for other nodes: nobody calls it.
func (e *edge) join(ring KeyRing) (err error) {
	o := &e.opts
	if e.peers, err = o.congestion(func(addr string) string { return e.pool.RegionAt(addr) }, e.reg, e.log); err != nil {
		return err
	}
	known := func(addr string) []string { return e.pool.NamesAt(addr) } // which is there before anybody is called
	e.conns = replication.NewConns(replication.ConnsConfig{
		Region: o.Region, Node: o.Node, Keys: ring.derive("link"), Dial: e.secrets.dial(e.peers.Dial, known),
	})
	e.pool, err = replication.NewPool(replication.PoolConfig{
		Region: o.Region, Node: o.Node, BindAddr: o.ClusterAddr, AdvertiseHost: o.AdvertiseHost, ClientURL: o.AdvertiseURL, Join: o.Join,
		Gateway: true, Keys: ring.derive("gossip"), Roster: noRoster{}, Logger: e.log, Metrics: e.reg, Instance: rand.Uint64(), Clock: e.clock,
		Identify: func(context.Context, string) (uint64, error) { return 0, errors.New("an edge cannot be asked") },
	})
	if err != nil {
		return fmt.Errorf("--cluster-addr: %w", err)
	}
	o.ClusterAddr = e.pool.Addr()
	return nil
}

// rekey goes on with another ring. Resume tokens are the business of the nodes that hold data.
func (e *edge) rekey(ring KeyRing) error {
	e.conns.SetKeys(ring.derive("link"))
	return e.pool.SetKeys(ring.derive("gossip"))
}

// noRoster is what a node without data has committed of other regions.
type noRoster struct{}

// Peers implements replication.Roster.
func (noRoster) Peers() []string { return nil }

// Evictions implements replication.Roster.
func (noRoster) Evictions(uint8) crdt.Evictions { return nil }

// Self implements replication.Roster.
func (noRoster) Self(uint8) crdt.Origin { return "" }

// AddPeer implements replication.Roster.
func (noRoster) AddPeer(context.Context, string) error { return nil }

// DataNodes implements gateway.Doors.
func (e *edge) DataNodes() []string { return e.pool.DataNodes() }

// Door implements gateway.Doors.
func (e *edge) Door(addr string) (peerpb.DoorClient, error) {
	conn, err := e.conns.To(addr)
	if err != nil {
		return nil, err
	}
	return peerpb.NewDoorClient(conn), nil
}

// close releases what is open.
func (e *edge) close() error {
	var errs []error
	for _, l := range []net.Listener{e.client, e.admin} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if e.pool != nil && !e.ran {
		errs = append(errs, e.pool.Close())
	}
	if e.conns != nil {
		errs = append(errs, e.conns.Close())
	}
	return errors.Join(errs...)
}

// doorLook is how often an edge that starts looks for a node that holds data.
const doorLook = 100 * time.Millisecond

// run works until ctx ends; clients stop first, then what serves them.
func (e *edge) run(ctx context.Context, ready func()) error {
	e.ran = true
	back, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, back := errgroup.WithContext(back)
	g.Go(func() error { return e.pool.Run(back) })
	g.Go(func() error { return e.secrets.run(back) })
	g.Go(func() error { return e.peers.Run(back) })
	g.Go(func() error {
		return serveHTTP(back, &http.Server{Handler: e.handler(e.serveStatus), ReadHeaderTimeout: headerTimeout}, e.admin)
	})
	g.Go(func() error {
		defer stop()
		front, cancel := context.WithCancel(back)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return e.serve(front, ready)
	})
	return g.Wait()
}

func (e *edge) serve(ctx context.Context, ready func()) error {
	return e.secrets.front(ctx, e.client, e.gateway.Handler(), e.awaitDoor, func(ctx context.Context) error {
		e.serving.Store(true)
		defer e.serving.Store(false)
		ready()
		return e.gateway.Run(ctx)
	})
}

// awaitDoor waits until a node that holds data takes clients, and reports whether one does.
func (e *edge) awaitDoor(ctx context.Context) (bool, error) {
	look := time.NewTicker(doorLook)
	defer look.Stop()
	for why := e.gateway.Ready(ctx); why != nil; why = e.gateway.Ready(ctx) {
		select {
		case <-ctx.Done():
			return false, e.gateway.Run(ctx)
		case <-look.C:
		}
	}
	return true, nil
}

// edgeStatus is what an edge's /v1/status answers.
type edgeStatus struct {
	Region   string            `json:"region"`
	Node     string            `json:"node"`
	Ready    bool              `json:"ready"`
	Gateway  bool              `json:"gateway"`
	Through  []gateway.Through `json:"through"`
	Security security          `json:"security"`
}

func (e *edge) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(edgeStatus{e.opts.Region, e.opts.Node, e.serving.Load(), true, e.gateway.Through(), e.secrets.status()})
	if err != nil {
		e.log.Debug("status not sent", "err", err)
	}
}
