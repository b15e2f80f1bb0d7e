package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/roamsync/roam/dispatch"
	"github.com/roamsync/roam/dispatch/worker"
	"github.com/roamsync/roam/gateway"
	"github.com/roamsync/roam/internal/clock"
	"github.com/roamsync/roam/internal/congestion"
	"github.com/roamsync/roam/internal/peerport"
	"github.com/roamsync/roam/internal/telemetry"
	"github.com/roamsync/roam/region"
	"github.com/roamsync/roam/replication"
)

// node is one `roam serve`: its parts, joined.
type node struct {
	desk
	opts ServeOptions
	log  *slog.Logger
	// telemetry is where spans go, if anywhere.
	telemetry *telemetry.Telemetry
	on        Machine
	page      http.Handler // shown at "/", if any
	secrets   *secrets
	clock     *clock.Clock
	peers     *congestion.Control // connections with other nodes, but those that are on's

	client, admin, peer net.Listener

	port     *peerport.Port
	cluster  cluster
	region   *region.Region
	pool     *replication.Pool
	links    *replication.Links
	gateway  *gateway.Gateway
	dispatch *dispatch.Dispatch
	worker   *worker.Worker // nil unless asked for
	redis    *dispatch.Embedded

	ran    bool        // run releases what it used
	left   bool        // run has given up waiting: what it used is still in use
	killed atomic.Bool // it ends without a drain
}

// newNode opens everything that can fail, so that whoever gets a node can run it. Errors name the flag.
func newNode(o ServeOptions, ring KeyRing, on Machine, log *slog.Logger) (_ *node, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	n := &node{desk: desk{reg: newRegistry()}, opts: o, log: log, on: on}
	n.clock = clock.New(clock.Config{Machine: o.machineClock(), Logger: log, Metrics: n.reg})
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.secrets, err = openSecrets(&n.opts, ring, n.reg, n.clock.Machine, log); err != nil {
		return nil, err
	}
	ring = *n.secrets.ring.Load()
	for _, open := range []func(KeyRing) error{n.listen, n.openTelemetry, n.openRegion, n.openReplication, n.openDispatch, n.openGateway} {
		if err := open(ring); err != nil {
			return nil, err
		}
	}
	n.secrets.rekey, n.why = n.rekey, n.region.NotReady
	return n, nil
}

// rekey goes on with another ring.
func (n *node) rekey(ring KeyRing) error {
	n.port.SetKeys(ring.derive("raft"))
	n.links.SetKeys(ring.derive("link"))
	n.gateway.SetKeys(ring.derive("resume"))
	return n.pool.SetKeys(ring.derive("gossip"))
}

func (n *node) listen(ring KeyRing) (err error) {
	if n.peers, err = n.opts.congestion(n.cluster.regionAt, n.reg, n.log); err != nil {
		return err
	}
	listen, listenPeers := n.on.Listen, n.on.Listen
	if listen == nil {
		listen = func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
		listenPeers = n.peers.Listen
	}
	for _, l := range []struct {
		flag   string
		addr   *string
		ln     *net.Listener
		listen func(addr string) (net.Listener, error)
	}{
		{"--client-addr", &n.opts.ClientAddr, &n.client, listen},
		{"--admin-addr", &n.opts.AdminAddr, &n.admin, listen},
		{"--peer-addr", &n.opts.PeerAddr, &n.peer, listenPeers},
	} {
		if *l.ln, err = l.listen(*l.addr); err != nil {
			return fmt.Errorf("%s %s: %w", l.flag, *l.addr, err)
		}
		*l.addr = (*l.ln).Addr().String()
	}
	if n.opts.AdvertiseURL == "" {
		n.opts.AdvertiseURL = n.opts.scheme() + n.opts.ClientAddr + "/v1/connect"
	}
	n.opts.PeerAddr = n.opts.advertised(n.opts.PeerAddr)
	cfg := peerport.Config{Listener: n.peer, Keys: ring.derive("raft"), Dial: n.dialer(), Logger: n.log}
	if p := n.secrets.peers; p != nil {
		cfg.Admit, cfg.Member = p.Accept, p.SameRegion
	}
	n.port, err = peerport.New(cfg)
	return err
}

// dialer reaches other nodes.
func (n *node) dialer() func(context.Context, string) (net.Conn, error) {
	dial := n.on.Dial
	if dial == nil {
		dial = n.peers.Dial
	}
	return n.secrets.dial(dial, n.cluster.namesAt)
}

// identify asks who answers at a node's peer address.
func (n *node) identify(ctx context.Context, addr string) (uint64, error) {
	return n.links.Ask(ctx, addr)
}
