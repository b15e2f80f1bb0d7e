package region

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// cutter is a cluster as a node sees it whose transfers of state are cut short, each after so many parts.
type cutter struct {
	*cluster
	mu    sync.Mutex
	after []int         // parts, by try; the tries that follow are not cut
	hang  chan struct{} // not nil: a try that is to be cut waits until this is closed
	tries int
	sent  int // bytes of keys and values
	same  int // runs that did not come
}

// Node implements Cluster.
func (c *cutter) Node(addr string) (peerpb.NodeClient, error) {
	client, err := c.cluster.Node(addr)
	return cutNode{client, c}, err
}

type cutNode struct {
	peerpb.NodeClient
	c *cutter
}

// State implements peerpb.NodeClient.
func (n cutNode) State(ctx context.Context, req *peerpb.StateRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[peerpb.StatePart], error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	left := -1
	if n.c.tries < len(n.c.after) {
		left = n.c.after[n.c.tries]
	}
	n.c.tries++
	stream, err := n.NodeClient.State(ctx, req, opts...)
	return &cutStream{stream, n.c, left}, err
}

type cutStream struct {
	grpc.ServerStreamingClient[peerpb.StatePart]
	c    *cutter
	left int // parts; below 0: all
}

// Recv implements grpc.ServerStreamingClient.
func (s *cutStream) Recv() (*peerpb.StatePart, error) {
	if s.left == 0 {
		if s.c.hang != nil {
			<-s.c.hang
		}
		return nil, errCut
	}
	s.left--
	part, err := s.ServerStreamingClient.Recv()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if len(part.GetSame()) > 0 {
		s.c.same++
	}
	for i, k := range part.GetKeys() {
		s.c.sent += len(k) + len(part.Values[i])
	}
	return part, err
}

// behind makes a region of three of whose nodes one, which is returned, has to take the state, of so many sessions of 100 KiB.
func behind(t *testing.T, cut *cutter, sessions int) (c *cluster, lead, lost string) {
	t.Helper()
	c = newCluster(t, 3, func(cfg *Config) {
		cfg.SnapshotEntries, cfg.TrailingEntries = 20, 5
		if cut.cluster != nil {
			cfg.Cluster = cut
		}
	})
	lead = c.leader()
	lost = c.other(lead)
	c.node(lost).halt()
	c.fill(lead, 0, sessions)
	c.snapshots()
	cut.cluster = c
	return c, lead, lost
}

// fill puts a large message into each of some sessions.
func (c *cluster) fill(by string, from, to int) {
	for i := from; i < to; i++ {
		session := fmt.Sprintf("alice/%04d", i)
		c.node(by).put(c.t, session, &crdt.Op{
			Session: session, OID: fmt.Sprintf("m%d-%d", i, rand.Int()), User: "alice", TS: 1, Kind: crdt.KindMsg, Role: "user",
			Text: strings.Repeat(fmt.Sprintf("%08d", rand.IntN(1e8)), 100<<7),
		})
	}
}

// snapshots has all live nodes cut their logs.
func (c *cluster) snapshots() {
	c.t.Helper()
	for _, n := range c.live() {
		if err := n.all()[0].raft.Snapshot().Error(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestTransferGoesOnWhereItWasCut: what has come of a state before it was cut need not come again, however often that happens, and to
// whatever the state has changed meanwhile.
func TestTransferGoesOnWhereItWasCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const sessions = 80
	cut := &cutter{}
	for at := 1; at < 30; at += 1 + rng.IntN(8) {
		cut.after = append(cut.after, at)
	}
	c, lead, lost := behind(t, cut, sessions)
	c.start(lost, t.TempDir(), 3)
	c.equal()
	most := sessions*(100<<10)*2 + len(cut.after)*2*partBytes // a message is in its session and in the feed
	if cut.sent > most || cut.tries <= len(cut.after) || cut.same == 0 {
		t.Errorf("%d bytes came in %d tries, and %d runs did not: more than %d", cut.sent, cut.tries, cut.same, most)
	}

	// The node is away again, for less: it gets what has changed.
	dir := c.node(lost).dir
	c.node(lost).halt()
	c.fill(lead, 0, 10)
	for i := range 30 {
		c.node(lead).put(t, "alice/small", msg2("alice/small", fmt.Sprint(i)))
	}
	c.keepNoMore()
	c.snapshots()
	cut.mu.Lock()
	cut.after, cut.tries, cut.sent, cut.same = nil, 0, 0, 0
	cut.mu.Unlock()
	c.start(lost, dir, 3)
	c.equal()
	if cut.tries == 0 || cut.sent > most/2 {
		t.Errorf("%d bytes came in %d tries; only some sessions had changed", cut.sent, cut.tries)
	}
}

// TestTransferOutlivesItsNode: a node that stops in the middle of a transfer goes on with it when it is there again, as a new node; status
// says on any node how far it is.
func TestTransferOutlivesItsNode(t *testing.T) {
	const sessions = 60
	cut := &cutter{after: []int{20}, hang: make(chan struct{})}
	c, lead, lost := behind(t, cut, sessions)
	dir := t.TempDir()
	n := c.launch(lost, dir, 3)
	c.until("its status shows on another node how far it is", func() bool {
		for _, s := range c.node(lead).Status(t.Context()).Nodes {
			if len(s.Taking) == 1 && s.ID == n.ID() && s.Taking[0].Bytes > 10*partBytes {
				return s.Taking[0].Tries == 1 && s.Taking[0].From != "" && s.Taking[0].Keys > 0
			}
		}
		return false
	})
	halted := make(chan struct{})
	go func() {
		defer close(halted)
		n.halt()
	}()
	<-n.stopping.Done()
	close(cut.hang)
	<-halted
	before := cut.sent
	c.start(lost, dir, 3)
	c.equal()
	if again := cut.sent - before; again > sessions*(100<<10)*2-before+4*partBytes {
		t.Errorf("%d bytes had come, and %d came after that", before, again)
	}
	if got := c.node(lost).Status(t.Context()).Nodes; len(got) == 0 || len(got[0].Taking) > 0 {
		t.Errorf("it still says that it takes the state: %+v", got)
	}
}

// TestLogIsKeptForTransfers: while a node takes the state from another one, and for some time after, that one does not cut its log, unless
// the log would become too large, or the disk is nearly full.
func TestLogIsKeptForTransfers(t *testing.T) {
	now := time.Now()
	var k logKeep
	if k.due(now, 0, false) {
		t.Error("it is kept for nobody")
	}
	k.renew()
	if !k.due(now, 100, false) || !k.due(now, 100+keepBytes, false) {
		t.Error("it is not kept")
	}
	if k.due(now, 101+keepBytes, false) || k.due(now, 102+keepBytes, false) {
		t.Error("it is kept although it has become too large")
	}
	if k.due(now, 200, true) || !k.due(now, 200, false) {
		t.Error("it is kept although the disk is nearly full, or not although it is not")
	}
	if k.due(now.Add(2*keepFor), 200, false) {
		t.Error("it is kept for ever")
	}

	c, lead, lost := behind(t, &cutter{}, 3)
	c.start(lost, t.TempDir(), 3)
	g := c.node(lead).all()[0]
	c.until("the log is kept", g.keepsAll)
	first, err := g.log.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		c.node(lead).put(t, "alice/small", msg2("alice/small", fmt.Sprint(i)))
	}
	if err := g.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if now, err := g.log.FirstIndex(); err != nil || now != first {
		t.Errorf("the log began at %d and begins at %d, %v", first, now, err)
	}
	c.keepNoMore()
	if c.node(lead).put(t, "alice/small", msg2("alice/small", "last")); g.raft.Snapshot().Error() != nil {
		t.Fatal("no snapshot")
	}
	if now, err := g.log.FirstIndex(); err != nil || now <= first {
		t.Errorf("the log is not cut: it begins at %d, %v", now, err)
	}
	c.equal()
}

// keepNoMore has no log kept for a transfer that is over.
func (c *cluster) keepNoMore() {
	for _, n := range c.live() {
		g := n.all()[0]
		g.keep.until.Store(0)
		c.until("the log is kept no more", func() bool { return !g.keepsAll() })
	}
}

func (g *group) keepsAll() bool { return g.raft.ReloadableConfig().TrailingLogs == keepAll }

// TestSlowDiskIsNotSilence: a transfer is given up when nothing comes, not when it takes long here to write what has come.
func TestSlowDiskIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStaged(t, 0)
		tk := &taker{g: &group{r: &Region{metrics: newMetrics(prometheus.NewRegistry())}}, held: &holding{fs: s.fs}, st: s.staging(1)}
		ctx, cancel := context.WithCancel(t.Context())
		idle := time.AfterFunc(takeIdle, cancel)
		left := 3
		if err := tk.receive(func() (*peerpb.StatePart, error) {
			if ctx.Err() != nil || left == 0 {
				return nil, errCut
			}
			left--
			tk.st.fs = slowFiles{s.fs}
			return &peerpb.StatePart{Keys: [][]byte{fmt.Append(nil, "\x10", 3-left)}, Values: [][]byte{make([]byte, tableBytes)}}, nil
		}, idle); !errors.Is(err, errCut) || ctx.Err() != nil || left > 0 {
			t.Errorf("it ended with %v, %v, and %d parts had not come", err, ctx.Err(), left)
		}
		time.Sleep(2 * takeIdle)
		if ctx.Err() != nil {
			t.Error("it is given up while what has come is installed")
		}
		tk.receive(func() (*peerpb.StatePart, error) { <-ctx.Done(); return nil, errCut }, idle)
	})
}

// slowFiles are on a disk that is slow.
type slowFiles struct{ vfs.FS }

// Create implements vfs.FS.
func (s slowFiles) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	time.Sleep(2 * takeIdle)
	return s.FS.Create(name, category)
}

// TestNobodyIsReachedForNothing: what is held is not read before a node is known to be there and to have what is needed.
func TestNobodyIsReachedForNothing(t *testing.T) {
	c := newCluster(t, 3, nil)
	lead := c.leader()
	gone := c.node(c.other(lead)).member
	c.node(gone.Node).halt()
	g := c.node(lead).all()[0]
	for what, try := range map[string]struct {
		from  wire.Member
		index uint64
		says  string
	}{
		"a node that is down": {gone, 1, "not reached"},
		"another node there":  {wire.Member{Node: "n9", ID: "n9.1", Addr: c.node(lead).member.Addr}, 1, "not reached"},
		"a node that lags":    {c.node(lead).member, 1 << 40, "is needed"},
	} {
		k := &taker{g: g}
		if err := k.pull(t.Context(), try.from, try.index); err == nil || !strings.Contains(err.Error(), try.says) {
			t.Errorf("%s: %v", what, err)
		}
		if k.held != nil {
			t.Errorf("%s: all that is held was read", what)
		}
	}
}
