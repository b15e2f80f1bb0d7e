package region

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// cluster is a region of several nodes on loopback, each of which can be stopped without a word and started again.
type cluster struct {
	t      testing.TB
	config func(*Config)

	mu    sync.Mutex
	nodes map[string]*clusterNode
	conns map[string]*grpc.ClientConn
}

type clusterNode struct {
	*started
	member   wire.Member
	raftAddr string
	reset    atomic.Bool // it was told that it has another's state; written before it is ready
	dir      string
	halt     func()
}

func newCluster(t testing.TB, n int, config func(*Config)) *cluster {
	c := &cluster{t: t, config: config, nodes: map[string]*clusterNode{}, conns: map[string]*grpc.ClientConn{}}
	t.Cleanup(func() {
		for _, conn := range c.conns {
			conn.Close()
		}
	})
	var up sync.WaitGroup
	for i := range n {
		up.Go(func() { c.start(fmt.Sprintf("n%d", i+1), t.TempDir(), n) })
	}
	up.Wait()
	return c
}

// Members implements Cluster.
func (c *cluster) Members() []wire.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []wire.Member
	for _, n := range c.nodes {
		all = append(all, n.member)
	}
	return all
}

// Node implements Cluster.
func (c *cluster) Node(addr string) (peerpb.NodeClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns[addr] == nil {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		c.conns[addr] = conn
	}
	return peerpb.NewNodeClient(c.conns[addr]), nil
}

// loopback is a raft.StreamLayer whose connections all end when the node is halted.
type loopback struct {
	net.Listener
	c  *cluster
	id string

	mu    sync.Mutex
	conns []net.Conn
}

func (c *cluster) listen() (*loopback, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	return &loopback{Listener: ln, c: c}, err
}

// Network and String implement net.Addr.
func (l *loopback) Network() string { return "raft" }
func (l *loopback) String() string  { return l.id }

// Addr implements net.Listener.
func (l *loopback) Addr() net.Addr { return l }

// Accept implements net.Listener.
func (l *loopback) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.conns = append(l.conns, conn)
	}
	return conn, err
}

// Dial implements raft.StreamLayer.
func (l *loopback) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	for _, n := range l.c.nodes {
		if n.member.ID == string(id) {
			return net.DialTimeout("tcp", n.raftAddr, timeout)
		}
	}
	return nil, fmt.Errorf("no node %s", id)
}

func (l *loopback) as(id string) raft.StreamLayer {
	l.id = id
	return l
}

func (l *loopback) cut() {
	l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
}

// start runs a node, and returns when it is ready.
func (c *cluster) start(name, dir string, expect int) {
	n := c.launch(name, dir, expect)
	if n == nil {
		return
	}
	select {
	case <-n.Ready():
	case <-time.After(patience):
		c.t.Errorf("%s is not ready after %v", name, patience)
	}
}

// launch runs a node; one that is to join, if no nodes found the region.
func (c *cluster) launch(name, dir string, expect int) *clusterNode {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Error(err)
		return nil
	}
	stream, err := c.listen()
	if err != nil {
		c.t.Error(err)
		return nil
	}
	cfg := Config{
		Region: "beijing", Node: name, Dir: dir, Expect: expect, Join: expect == 0, Cluster: c,
		Stream: stream.as,
	}
	if c.config != nil {
		c.config(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		c.t.Error(err)
		return nil
	}
	n := &clusterNode{
		started: &started{Region: r, events: make(chan wire.Event, 100_000)}, dir: dir,
		member: wire.Member{Node: name, ID: r.ID(), Addr: ln.Addr().String(), Alive: true}, raftAddr: stream.Listener.Addr().String(),
	}
	r.Watch(func(evs []wire.Event) {
		for _, e := range evs {
			if e.Reset {
				n.reset.Store(true)
			}
			n.events <- e
		}
	})
	srv := grpc.NewServer()
	r.Register(srv)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { srv.Serve(ln) })
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			c.t.Error(err)
		}
	})
	var once sync.Once
	n.halt = func() {
		once.Do(func() {
			c.mu.Lock()
			n.member.Alive = false
			c.mu.Unlock()
			srv.Stop()
			cancel()
			stream.cut()
			running.Wait()
			if err := r.Close(); err != nil {
				c.t.Error(err)
			}
		})
	}
	c.t.Cleanup(n.halt)
	c.mu.Lock()
	c.nodes[name] = n
	c.mu.Unlock()
	return n
}

func (c *cluster) node(name string) *clusterNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[name]
}

// leader waits until one of the nodes leads.
func (c *cluster) leader() (name string) {
	c.t.Helper()
	c.until("a node leads", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for n, node := range c.nodes {
			if node.member.Alive && node.Led() != 0 {
				name = n
				return true
			}
		}
		return false
	})
	return name
}

func (c *cluster) until(what string, so func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-deadline.C:
			c.t.Fatalf("after %v it is not so that %s", patience, what)
		}
	}
}

// equal waits until all live nodes have the same cursors and digests, and returns how many ops they hold.
func (c *cluster) equal() (ops uint64) {
	c.t.Helper()
	var live []*clusterNode
	for name := range c.nodes {
		if n := c.node(name); n.member.Alive {
			live = append(live, n)
		}
	}
	for p := range uint8(crdt.Partitions) {
		c.until(fmt.Sprintf("partition %d is the same on all nodes", p), func() bool {
			for _, n := range live {
				if !n.Cursors(p).Covers(live[0].Cursors(p)) || !live[0].Cursors(p).Covers(n.Cursors(p)) {
					return false
				}
			}
			return true
		})
		want, err := live[0].Digest(p)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, n := range live {
			if got, err := n.Digest(p); err != nil || got != want {
				c.t.Errorf("partition %d: equal cursors, digests %x and %x (%v)", p, got, want, err)
			}
		}
		for _, f := range live[0].Cursors(p) {
			ops += f
		}
	}
	return ops
}

func (c *cluster) other(than string) string {
	for name := range c.nodes {
		if name != than && c.node(name).member.Alive {
			return name
		}
	}
	c.t.Fatal("no other node")
	return ""
}

// TestThreeNodesAreOne: a put by any node is an event on all, read everywhere; a second leader goes on where the first
// ended; who comes back catches up.
func TestThreeNodesAreOne(t *testing.T) {
	c := newCluster(t, 3, nil)
	for i, name := range []string{"n1", "n2", "n3"} {
		if e := c.node(name).put(t, "alice/trip", msg(name, name)); e.Refused != nil || e.Placed[0].Place.Seq != uint64(i+1) {
			t.Fatalf("%s: %+v", name, e)
		}
	}
	if got := c.equal(); got != 3 {
		t.Errorf("%d ops, want 3", got)
	}
	lead := c.leader()
	self := c.node(lead).Self()
	c.node(lead).halt()
	next := c.leader()
	for _, name := range []string{next, c.other(next)} {
		if e := c.node(name).put(t, "alice/trip", msg("after-"+name, "x")); e.Refused != nil {
			t.Errorf("%s: %v", name, e.Refused)
		}
		if e := c.node(name).put(t, "alice/trip", msg("n1", "n1")); len(e.Changes) != 0 || e.Placed[0].Place.Seq != 1 {
			t.Errorf("put again at %s: %+v", name, e)
		}
	}
	if got := c.node(next).Self(); got != self {
		t.Errorf("the new leader issues as %s, the old one did as %s", got, self)
	}
	c.start(lead, c.node(lead).dir, 3)
	if got := c.equal(); got != 5 {
		t.Errorf("%d ops, want 5", got)
	}
}

// TestLostDirectory: a node that comes back without its directory is another one to Raft, and gets the whole state from
// the others, though the log was cut long ago.
func TestLostDirectory(t *testing.T) {
	c := newCluster(t, 3, func(cfg *Config) { cfg.SnapshotEntries, cfg.TrailingEntries = 20, 5 })
	lead := c.leader()
	lost := c.other(lead)
	old := c.node(lost)
	old.halt()
	for i := range 60 {
		c.node(lead).put(t, fmt.Sprintf("alice/%d", i%7), &crdt.Op{
			Kind: crdt.KindMsg, Session: fmt.Sprintf("alice/%d", i%7), OID: fmt.Sprint(i), User: "alice", Role: "user", Text: "text",
		})
	}
	for name := range c.nodes {
		if n := c.node(name); n.member.Alive {
			if err := n.all()[0].raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.start(lost, t.TempDir(), 3)
	if c.node(lost).id == old.id {
		t.Error("an empty directory has the raft id of the one that was lost")
	}
	if got := c.equal(); got != 60 {
		t.Errorf("%d ops, want 60", got)
	}
	if !c.node(lost).reset.Load() {
		t.Error("the log brought it all: nothing was transferred")
	}
	c.until("the new node votes, and the old one is gone", func() bool {
		votes := 0
		for _, s := range c.node(lead).all()[0].servers() {
			if string(s.ID) == old.id {
				return false
			}
			if s.Suffrage == 0 {
				votes++
			}
		}
		return votes == 3
	})
	if e := c.node(lost).put(t, "alice/0", msg2("alice/0", "new")); e.Refused != nil {
		t.Errorf("%+v", e)
	}
	c.node(lost).halt() // and what it took is on its disk
	c.start(lost, c.node(lost).dir, 3)
	if got := c.equal(); got != 61 {
		t.Errorf("%d ops, want 61", got)
	}
}

func msg2(session, oid string) *crdt.Op {
	op := msg(oid, oid)
	op.Session = session
	return op
}

// TestTornDirectory: a node whose state is older than its log begins, as after a crash between the two halves of a
// transfer, empties itself and gets the state again as a new node.
func TestTornDirectory(t *testing.T) {
	c := newCluster(t, 3, func(cfg *Config) { cfg.SnapshotEntries, cfg.TrailingEntries = 20, 5 })
	lead := c.leader()
	torn := c.other(lead)
	was := c.node(torn)
	was.halt()
	before := t.TempDir()
	if err := os.CopyFS(before, os.DirFS(was.dir)); err != nil {
		t.Fatal(err)
	}
	c.start(torn, was.dir, 3)
	for i := range 30 {
		c.node(lead).put(t, "alice/trip", msg(fmt.Sprint(i), "text"))
	}
	c.equal()
	if err := c.node(torn).all()[0].raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	c.node(torn).halt()
	state := filepath.Join(was.dir, "state")
	if err := errors.Join(os.RemoveAll(state), os.CopyFS(state, os.DirFS(filepath.Join(before, "state")))); err != nil {
		t.Fatal(err)
	}
	c.start(torn, was.dir, 3)
	if c.node(torn).id == was.id {
		t.Error("it has kept its raft id")
	}
	if got := c.equal(); got != 30 {
		t.Errorf("%d ops, want 30", got)
	}
}
