package region

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// leaders are the other nodes of a region, each of which answers what is forwarded to it in its own way.
type leaders map[string]func(context.Context) error

// Members implements Cluster.
func (l leaders) Members() (all []wire.Member) {
	for id := range l {
		all = append(all, wire.Member{Node: id, ID: id, Addr: id, Alive: true})
	}
	return all
}

// Node implements Cluster.
func (l leaders) Node(addr string) (peerpb.NodeClient, error) {
	return leaderClient{answer: l[addr]}, nil
}

type leaderClient struct {
	peerpb.NodeClient
	answer func(context.Context) error
}

// Propose implements peerpb.NodeClient.
func (c leaderClient) Propose(ctx context.Context, _ *peerpb.ProposeRequest, _ ...grpc.CallOption) (*peerpb.ProposeReply, error) {
	return &peerpb.ProposeReply{}, c.answer(ctx)
}

// hang is a node that says nothing, and take one that commits.
func hang(ctx context.Context) error { <-ctx.Done(); return status.FromContextError(ctx.Err()).Err() }
func take(context.Context) error     { return nil }

// forwarder is a group at a node that does not lead it.
func forwarder(nodes leaders) *group {
	r := &Region{cfg: Config{CommitDeadline: 10 * time.Second, Cluster: nodes}, id: "self", metrics: newMetrics(prometheus.NewRegistry())}
	return &group{r: r, leader: newLeader(), queue: make(chan *proposal, queueLength)}
}

// told is when a proposal was refused, since when, and why.
type told struct {
	after time.Duration
	err   error
}

// wait makes a put that has waited for so long, and notes how it is refused.
func wait(g *group, waited time.Duration) (*proposal, *told) {
	begun, t := time.Now().Add(-waited), &told{}
	return &proposal{
		cmd: &machine.Command{Kind: machine.KindPut, Session: "alice/trip", Ops: []*crdt.Op{msg("a", "text")}}, since: begun,
		fail: func(err error) { t.after, t.err = time.Since(begun), err },
	}, t
}

// TestEachHasItsTime: of puts that are forwarded together each is tried for as long as if it were alone. One that has waited long takes none with it.
func TestEachHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := forwarder(leaders{})
		old, oldTold := wait(g, 9*time.Second)
		fresh, freshTold := wait(g, 0)
		g.commit(t.Context(), &crdt.Clock{}, []*proposal{old, fresh})
		for what, got := range map[string]*told{"old": oldTold, "fresh": freshTold} {
			if !errors.Is(got.err, wire.ErrUnavailable) || got.after < 10*time.Second || got.after > 10*time.Second+2*retryPause {
				t.Errorf("the %s put was refused after %v: %v; want 10s and unavailable", what, got.after, got.err)
			}
		}
	})
}

// TestCancelledForwardIsTriedAgain: a leader hangs until there is another one. By then the time of one of the puts that it was sent is over; the other
// one is sent to the new leader.
func TestCancelledForwardIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := forwarder(leaders{"n1": hang, "n2": take})
		g.leader.set("n1")
		old, oldTold := wait(g, 8*time.Second)
		fresh, freshTold := wait(g, 0)
		time.AfterFunc(3*time.Second, func() { g.leader.set("n2") })
		begun := time.Now()
		g.commit(t.Context(), &crdt.Clock{}, []*proposal{old, fresh})
		if took := time.Since(begun); took > 3*time.Second+2*retryPause || freshTold.err != nil {
			t.Errorf("after %v the fresh put was refused: %v", took, freshTold.err)
		}
		if !errors.Is(oldTold.err, wire.ErrUnavailable) {
			t.Errorf("the old put: %v", oldTold.err)
		}
	})
}

// TestForwardEndsWithThePuts: a leader that hangs and stays is not waited for longer than the puts may be.
func TestForwardEndsWithThePuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := forwarder(leaders{"n1": hang})
		g.leader.set("n1")
		p, got := wait(g, 4*time.Second)
		g.commit(t.Context(), &crdt.Clock{}, []*proposal{p})
		if got.after != 10*time.Second {
			t.Errorf("refused after %v, want 10s: %v", got.after, got.err)
		}
	})
}

// TestNodeThatStopsSaysSo: what is under way when a node stops is refused for that reason, and not for how that shows.
func TestNodeThatStopsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := forwarder(leaders{"n1": hang})
		g.leader.set("n1")
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		p, got := wait(g, 0)
		g.commit(ctx, &crdt.Clock{}, []*proposal{p})
		if !errors.Is(got.err, errStopping) || !errors.Is(got.err, wire.ErrUnavailable) || status.Code(got.err) == codes.Canceled {
			t.Errorf("refused: %v", got.err)
		}
	})
}
