package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/hashicorp/memberlist"

	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/region"
)

// Machine is what a node runs on. The zero value is the machine that the process runs on; whoever runs a node elsewhere, on a
// network and a disk in memory, says so here.
type Machine struct {
	// Listen takes an address for clients, operators or other nodes.
	Listen func(addr string) (net.Listener, error)
	// Dial reaches other nodes.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Gossip is the transport of membership at an address.
	Gossip func(addr string) (memberlist.Transport, error)
	// Redis reaches Redis, and is left alone by timeouts: see dispatch.Config.Dial.
	Redis func(ctx context.Context, network, addr string) (net.Conn, error)
	// Region changes what the region's copy is opened with: its disk, and its bounds.
	Region func(*region.Config)
}

// Node is one `roam serve` on a machine of its owner's.
type Node struct{ n *node }

// NewNode opens a node. Whoever has one calls Run once, or else Close.
func NewNode(o ServeOptions, ring KeyRing, on Machine, log *slog.Logger) (*Node, error) {
	n, err := newNode(o, ring, on, log)
	if err != nil {
		return nil, err
	}
	return &Node{n}, nil
}

// Run works until ctx ends, and then drains; ready is called when it takes clients.
func (n *Node) Run(ctx context.Context, ready func()) error { return n.n.run(ctx, ready) }

// Kill has Run end without a drain, once its ctx ends.
func (n *Node) Kill() { n.n.killed.Store(true) }

// Close releases what Run does not.
func (n *Node) Close() error { return n.n.close() }

// emulated is this machine, with a wide-area network between its regions.
func emulated(wan *memnet.Network, name string) Machine {
	return Machine{
		Listen: func(addr string) (net.Listener, error) {
			l, err := net.Listen("tcp", addr)
			if err == nil {
				wan.Place(name, l.Addr().String())
			}
			return l, err
		},
		Dial: wan.DialFunc(name),
		Gossip: func(addr string) (memberlist.Transport, error) {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			p, err := strconv.Atoi(port)
			if err != nil {
				return nil, fmt.Errorf("port: %w", err)
			}
			inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: p})
			if err != nil {
				return nil, err
			}
			wan.Place(name, net.JoinHostPort(host, strconv.Itoa(inner.GetAutoBindPort())))
			return wan.Transport(name, inner), nil
		},
	}
}
