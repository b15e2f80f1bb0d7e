package region

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/wire/peerpb"
)

// freezer is a cluster as a node sees it in which the others can stop to answer.
type freezer struct {
	*cluster
	frozen atomic.Bool

	mu    sync.Mutex
	both  chan struct{} // closed when two are asked
	waits []time.Duration
}

// Node implements Cluster.
func (f *freezer) Node(addr string) (peerpb.NodeClient, error) {
	client, err := f.cluster.Node(addr)
	return frozenNode{client, f}, err
}

type frozenNode struct {
	peerpb.NodeClient
	f *freezer
}

// Hello implements peerpb.NodeClient.
func (n frozenNode) Hello(ctx context.Context, req *peerpb.HelloRequest, opts ...grpc.CallOption) (*peerpb.HelloReply, error) {
	if !n.f.frozen.Load() {
		return n.NodeClient.Hello(ctx, req, opts...)
	}
	if until, ok := ctx.Deadline(); ok && ctx.Value(asksStatus{}) != nil {
		n.f.note(time.Until(until))
		<-n.f.both // who is asked after the other had its time is not asked at the same time
	}
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

func (f *freezer) note(wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waits = append(f.waits, wait)
	if len(f.waits) == 2 {
		close(f.both)
	}
}

// asksStatus marks a context, since leaders say hello as well.
type asksStatus struct{}

// TestStatusOfFrozenNodes: nodes that hang are waited for together, half a second, and are named.
func TestStatusOfFrozenNodes(t *testing.T) {
	f := &freezer{both: make(chan struct{})}
	var once sync.Once
	c := newCluster(t, 3, func(cfg *Config) {
		once.Do(func() { f.cluster = cfg.Cluster.(*cluster) })
		cfg.Cluster = f
	})
	lead := c.leader()
	f.frozen.Store(true)
	defer f.frozen.Store(false)
	s := c.node(lead).Status(context.WithValue(t.Context(), asksStatus{}, true))
	if len(s.Nodes) != 3 || len(f.waits) != 2 || max(f.waits[0], f.waits[1]) > statusWait {
		t.Errorf("%+v, after %v", s.Nodes, f.waits)
	}
	for _, n := range s.Nodes {
		hangs := n.Node != c.node(lead).member.Node
		if says := strings.Contains(n.Error, "has not answered within 500ms"); says != hangs || hangs == (n.Level > 0) {
			t.Errorf("%+v", n)
		}
	}
}
