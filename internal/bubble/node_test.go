package bubble

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/roamsync/roam/internal/app"
	"github.com/roamsync/roam/region"
)

// node is a machine of a region, with its disk.
type node struct {
	w     *world
	s     *site
	place string // on the network
	host  string
	opts  app.ServeOptions
	disk  *disk
	cut   bool  // from the others of its region
	life  *life // nil: it is down
	// astray is set while the region may have gone on without what the node has: then it may end by itself, and say so.
	astray atomic.Bool
}

// life is one process on it.
type life struct {
	node    *app.Node
	dead    atomic.Bool // it has crashed, and does not know
	serving atomic.Bool
	over    atomic.Bool // it has ended by itself, and may
	cancel  context.CancelFunc
	done    chan error
}

// retained is how many ops of a feed are kept for regions that are away: so few that cuts of minutes are longer than that.
const retained = 30

// takeover is after how long of silence another region makes a region's answers.
const takeover = 10 * time.Second

var errDead = errors.New("this process is dead")

func newNode(s *site, i, of int) *node {
	name := fmt.Sprintf("n%d", i)
	n := &node{w: s.w, s: s, place: s.name + "/" + name, host: fmt.Sprintf("127.%d.%d.1", s.number, i), disk: newDisk()}
	n.opts = app.ServeOptions{
		Region: s.name, Node: name, Data: "/data", BootstrapExpect: of, Redis: "redis://" + s.redis.addr, Worker: "echo", Auth: "dev",
		FeedRetainOps: retained, TakeoverAfter: takeover,
		ClientAddr: n.host + ":8080", AdminAddr: n.host + ":8081", ClusterAddr: n.host + ":7946", PeerAddr: n.host + ":7947",
	}
	return n
}

// seeds are whom a node of a region asks for the others: the first of each region, and all of its own.
func (w *world) seeds(own *site) (all []string) {
	for _, s := range w.regions {
		for i, n := range s.nodes {
			if i == 0 || s == own {
				all = append(all, n.opts.ClusterAddr)
			}
		}
	}
	return all
}

// machine is what a process runs on.
func (n *node) machine(l *life) app.Machine {
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		if l.dead.Load() {
			return nil, errDead
		}
		c, err := n.w.net.DialFunc(n.place)(ctx, addr)
		if err == nil && l.dead.Load() {
			c.Close()
			return nil, errDead
		}
		if err != nil {
			return nil, err
		}
		return n.metered(c, addr), nil
	}
	return app.Machine{
		Listen: func(addr string) (net.Listener, error) { return n.w.net.Listen(n.place, addr) },
		Dial:   dial,
		Redis:  func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
		Gossip: func(addr string) (memberlist.Transport, error) {
			inner, err := n.w.net.Member(n.place, addr)
			return gossip{inner, n}, err
		},
		Region: func(c *region.Config) {
			n.disk.use(c)
			c.CacheBytes, c.MemtableBytes = 8<<20, 256<<10
			c.SnapshotEntries, c.TrailingEntries = 200, 100
		},
	}
}

// start begins a process; it is ready in its own time.
func (n *node) start() {
	n.w.t.Helper()
	if n.life != nil {
		return
	}
	n.s.ill(healing)
	n.opts.Join = n.w.seeds(n.s)
	l := &life{done: make(chan error, 1)}
	var err error
	if l.node, err = app.NewNode(n.opts, n.w.ring, n.machine(l), n.w.log.With("node", n.place)); err != nil {
		n.w.t.Fatalf("%s: %v", n.place, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, n.life = cancel, l
	go func() {
		err := l.node.Run(ctx, func() { l.serving.Store(true) })
		switch {
		case ctx.Err() != nil || l.dead.Load():
		case n.astray.Load() && err != nil && strings.Contains(err.Error(), "goes on without entry"):
			l.over.Store(true)
		default:
			n.w.violate("%s has ended by itself: %v", n.place, err)
		}
		l.done <- errors.Join(err, l.node.Close())
	}()
}

// crash ends the process as a loss of power does: nothing that it still does is seen, and what it has not synced is gone.
func (n *node) crash() {
	l := n.life
	if l == nil {
		return
	}
	n.life = nil
	l.dead.Store(true)
	n.w.net.Vanish(n.place)
	n.disk = n.disk.crash(n.w.rng)
	l.node.Kill()
	l.cancel()
	n.w.ending.Go(func() { <-l.done })
	n.s.ill(healing)
}

// serves reports whether the process takes clients.
func (n *node) serves() bool { return n.life != nil && n.life.serving.Load() && !n.life.over.Load() }

// stop ends the process in order.
func (n *node) stop() {
	l := n.life
	if l == nil {
		return
	}
	n.life = nil
	l.cancel()
	if err := <-l.done; err != nil {
		n.w.violate("%s did not end in order: %v", n.place, err)
	}
	n.s.ill(healing)
}

// leader is the node that leads the region, nil if there is none that says so.
func (s *site) leader() *node {
	for _, n := range s.nodes {
		if n.life == nil {
			continue
		}
		if st, err := n.status(); err == nil && st.Raft.Leads {
			return n
		}
	}
	return nil
}

// incarnation is under which name the node numbers.
func (n *node) incarnation() string {
	st, err := n.status()
	if err != nil {
		n.w.t.Fatal(err)
	}
	return st.Origin
}
