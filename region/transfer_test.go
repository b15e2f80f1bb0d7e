package region

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// spoiled is a node whose first transfers of state go wrong, each in its own way.
type spoiled struct {
	peerpb.NodeClient
	tries *atomic.Int64
}

// State implements peerpb.NodeClient.
func (s spoiled) State(ctx context.Context, req *peerpb.StateRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[peerpb.StatePart], error) {
	try := s.tries.Add(1)
	if try > 1 && try < 9 {
		req.Held = nil // all is sent, and can be spoiled; a version that does not know of it does the same
	}
	stream, err := s.NodeClient.State(ctx, req, opts...)
	return &spoiledStream{stream, try}, err
}

type spoiledStream struct {
	grpc.ServerStreamingClient[peerpb.StatePart]
	try int64
}

var errCut = errors.New("cut")

// Recv implements grpc.ServerStreamingClient.
func (s *spoiledStream) Recv() (*peerpb.StatePart, error) {
	part, err := s.ServerStreamingClient.Recv()
	if err != nil {
		return nil, err
	}
	switch {
	case s.try == 1 && part.Last:
		return nil, errCut // all but the end came
	case s.try == 2 && !part.Last:
		part.Values[0] = append(part.Values[0], 'x')
	case s.try == 3 && !part.Last:
		part.Keys, part.Values = part.Keys[1:], part.Values[1:]
	case s.try == 4 && !part.Last:
		part.Keys[0], part.Keys[1] = part.Keys[1], part.Keys[0]
	case s.try == 5 && !part.Last:
		part.Keys[0] = machine.NodeKey(nodeID)
	case s.try == 6 && !part.Last:
		part.Values = part.Values[1:]
	case s.try == 7 && part.Last:
		part.Count++
	case s.try == 8 && part.Last:
		part.Applied = 1 // older than what is needed
	}
	return part, nil
}

// spoiledCluster is the cluster as the node that takes the state sees it.
type spoiledCluster struct {
	*cluster
	tries atomic.Int64
}

// Node implements Cluster.
func (c *spoiledCluster) Node(addr string) (peerpb.NodeClient, error) {
	client, err := c.cluster.Node(addr)
	return spoiled{client, &c.tries}, err
}

// TestTransferIsTakenWholeOrNotAtAll: whatever goes wrong with a state on its way, it is tried again, and only all of it
// is ever shown.
func TestTransferIsTakenWholeOrNotAtAll(t *testing.T) {
	faulty := &spoiledCluster{}
	c := newCluster(t, 3, func(cfg *Config) {
		cfg.SnapshotEntries, cfg.TrailingEntries = 20, 5
		if faulty.cluster != nil {
			cfg.Cluster = faulty
		}
	})
	lead := c.leader()
	lost := c.other(lead)
	c.node(lost).halt()
	for i := range 40 {
		c.node(lead).put(t, "alice/trip", msg(fmt.Sprint(i), "text"))
	}
	for name := range c.nodes {
		if n := c.node(name); n.member.Alive {
			if err := n.all()[0].raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	faulty.cluster = c
	c.start(lost, dir, 3)
	if got := c.equal(); got != 40 {
		t.Errorf("%d ops, want 40", got)
	}
	if got := faulty.tries.Load(); got != 9 {
		t.Errorf("%d tries, want 8 that fail and one that does not", got)
	}
	left, err := os.ReadDir(filepath.Join(dir, "staging"))
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		t.Errorf("left in staging: %v, %v", left, err)
	}
}

// TestDamagedLogIsRefused: a log that cannot be read is an error that says what to do, not a panic.
func TestDamagedLogIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	for i := range 20 {
		s.put(t, "alice/trip", msg(fmt.Sprint(i), strings.Repeat("text", 100)))
	}
	s.stop()
	wals, err := filepath.Glob(filepath.Join(dir, "raft", "*.wal"))
	if err != nil || len(wals) == 0 {
		t.Fatal(wals, err)
	}
	for _, w := range wals {
		b, err := os.ReadFile(w)
		if err != nil {
			t.Fatal(err)
		}
		copy(b[200:], strings.Repeat("\xff", 400))
		if err := os.WriteFile(w, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: dir})
	if err == nil {
		r.Close()
		t.Fatal("it was opened")
	}
	if !strings.Contains(err.Error(), "Restore the directory") {
		t.Errorf("it does not say what to do: %v", err)
	}
}
