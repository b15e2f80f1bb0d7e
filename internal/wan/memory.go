package wan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"

	"github.com/roamsync/roam/internal/app"
	"github.com/roamsync/roam/internal/memnet"
)

// memory is the ground of nodes in this process, on a network in memory and on disks of this machine. Nodes end without
// a drain when they are killed, but keep what they had written: power does not fail here.
type memory struct {
	net *memnet.Network
	dir string

	mu   sync.Mutex
	all  []*memoryLife
	logs []io.Closer
}

// memoryHost is the address of a node.
func memoryHost(region, node int) string { return fmt.Sprintf("127.91.%d.%d", region, node) }

func newMemory(dir string) (ground, error) {
	network, err := memnet.New(memnet.Config{Dial: func(_ context.Context, addr string) (net.Conn, error) {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}})
	if err != nil {
		return nil, err
	}
	return &memory{net: network, dir: dir}, nil
}

// memoryLife is one node.
type memoryLife struct {
	node   *app.Node
	dead   atomic.Bool
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // when ended is closed
	gone   func()
}

var errDead = errors.New("this node is dead")

// Start implements ground.
func (m *memory) Start(n *node) (life, error) {
	f, err := os.OpenFile(filepath.Join(m.dir, n.region+"-"+n.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(f, nil)).With("region", n.region, "node", n.name)
	ring, err := app.ReadKeyRing(n.secret)
	if err != nil {
		return nil, err
	}
	l := &memoryLife{ended: make(chan struct{}), gone: func() { m.net.Vanish(n.region + "/" + n.name) }}
	if l.node, err = app.NewNode(n.options(), ring, m.machine(n, l), log); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go func() {
		defer close(l.ended)
		l.err = errors.Join(l.node.Run(ctx, func() {}), l.node.Close())
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all, m.logs = append(m.all, l), append(m.logs, f)
	return l, nil
}

// machine is what a node runs on.
func (m *memory) machine(n *node, l *memoryLife) app.Machine {
	place := n.region
	dial := m.net.DialFunc(place)
	return app.Machine{
		Listen: func(addr string) (net.Listener, error) { return m.net.Listen(place, addr) },
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if l.dead.Load() {
				return nil, errDead
			}
			return dial(ctx, addr)
		},
		Gossip: func(addr string) (memberlist.Transport, error) { return m.net.Member(place, addr) },
	}
}

// options are those of the node's command line.
func (n *node) options() app.ServeOptions {
	return app.ServeOptions{Region: n.region, Node: n.name, Data: n.dir, DiskReserve: "0", BootstrapExpect: n.expect, Join: n.join,
		ClientAddr: n.addr(clientPort), AdminAddr: n.addr(adminPort), ClusterAddr: n.addr(clusterPort), PeerAddr: n.addr(peerPort),
		Redis: "embedded", Worker: "echo", AuthHS256File: n.key, SecretFile: n.secret, ClockOffset: n.offset}
}

// Kill implements life.
func (l *memoryLife) Kill() {
	l.dead.Store(true)
	l.gone()
	l.node.Kill()
	l.cancel()
	<-l.ended
}

// Stop implements life.
func (l *memoryLife) Stop() error {
	l.cancel()
	<-l.ended
	return l.err
}

// Ended implements life.
func (l *memoryLife) Ended() <-chan struct{} { return l.ended }

// Faults implements life: a node of this process that panics ends the rig.
func (l *memoryLife) Faults() string { return "" }

// Dialer implements ground.
func (m *memory) Dialer(region string) dialFunc { return m.net.DialFunc(region) }

// Ways implements ground.
func (m *memory) Ways() ways { return m }

// Shape implements ways.
func (m *memory) Shape(p Pair, s Shape) {
	m.net.Shape(p.From, p.To, memnet.Shape{Delay: s.Delay, Jitter: s.Jitter, Loss: s.Loss, Duplicate: s.Duplicate, Rate: s.Rate})
	c := memnet.Open
	if s.Cut {
		c = memnet.Stall
	}
	m.net.Cut(p.From, p.To, c)
}

// Counts implements ways.
func (m *memory) Counts() map[Pair]Count {
	all := map[Pair]Count{}
	for _, a := range regionNames {
		for _, b := range regionNames {
			if c := m.net.Count(a, b); c.Packets > 0 {
				all[Pair{a, b}] = Count{Packets: c.Packets, Bytes: c.Bytes, Lost: c.Lost, Doubled: c.Doubled}
			}
		}
	}
	return all
}

// Close implements ground.
func (m *memory) Close() error {
	var errs []error
	for _, l := range m.all {
		l.Kill()
	}
	m.net.Close()
	for _, f := range m.logs {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
