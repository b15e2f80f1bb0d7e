package region

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Cluster is what a node knows of the nodes of its region.
type Cluster interface {
	// Members are all that were heard of, this one included.
	Members() []wire.Member
	// Node reaches the one at a peer address. The client is shared, and not to be closed.
	Node(addr string) (peerpb.NodeClient, error)
}

const (
	// tendEvery is how often a leader looks for nodes to take in, and a new node for others to found the region with.
	tendEvery = 200 * time.Millisecond
	// helloTimeout bounds one question to another node, changeTimeout one change of the group.
	helloTimeout  = time.Second
	changeTimeout = 5 * time.Second
	// lostAfter is how long a node that votes is dead before another one that has caught up gets its vote.
	lostAfter = 30 * time.Second
	// closeEnough is how many entries behind the leader a node may be when it gets its vote.
	closeEnough = 1000
	// catchUpLook is how often a new node looks whether it has all that was acknowledged.
	catchUpLook = 10 * time.Millisecond
)

// Register adds the service for the other nodes of the region to a server.
func (r *Region) Register(s grpc.ServiceRegistrar) { peerpb.RegisterNodeServer(s, r) }

// ID is the raft id: the node's name and what was drawn for its directory.
func (r *Region) ID() string { return r.id }

func nodeOf(id raft.ServerID) string { return nodeOfID(string(id)) }

func founders(ids []string) raft.Configuration {
	var c raft.Configuration
	for _, id := range ids {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return c
}

// servers is the Raft group, as far as this node knows.
func (g *group) servers() []raft.Server {
	f := g.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// heard are the nodes of the region that were heard of, alive or not.
func (r *Region) heard() []wire.Member {
	if r.cfg.Cluster == nil {
		return nil
	}
	return r.cfg.Cluster.Members()
}

// alive are the live nodes of the region, by name.
func (r *Region) alive() []wire.Member {
	all := slices.DeleteFunc(r.heard(), func(m wire.Member) bool { return !m.Alive || m.ID == "" })
	slices.SortFunc(all, func(a, b wire.Member) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

func (r *Region) hello(ctx context.Context, m wire.Member) (*peerpb.HelloReply, error) {
	client, err := r.cfg.Cluster.Node(m.Addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	reply, err := client.Hello(ctx, &peerpb.HelloRequest{Region: r.cfg.Region, From: r.id})
	if err == nil && reply.Id != m.ID {
		err = fmt.Errorf("it is now %s", reply.Id)
	}
	if reply.GetCommitted() > r.cfg.level {
		r.fail(fmt.Errorf("the region is at feature level %d, and this version applies up to %d: install the newer one", reply.Committed, r.cfg.level))
	}
	return reply, err
}

// Hello implements peerpb.NodeServer.
func (r *Region) Hello(_ context.Context, req *peerpb.HelloRequest) (*peerpb.HelloReply, error) {
	if req.Region != r.cfg.Region {
		return nil, status.Errorf(codes.FailedPrecondition, "this node is of region %s, not %s", r.cfg.Region, req.Region)
	}
	all := r.all()
	reply := &peerpb.HelloReply{
		Id: r.id, Expect: uint32(r.cfg.Expect), Level: r.cfg.level, Committed: r.level(), Groups: uint32(len(all)), Wish: uint32(r.cfg.Groups),
		Undecided: len(all) == 0, Draining: r.draining.Load(), Left: r.out(req.From) == machine.OutLeft,
		Process: r.entry,
	}
	for _, g := range all {
		s := &peerpb.GroupState{
			Founded: len(g.servers()) > 0, Leads: g.leading.Load(), Applied: g.fsm.Applied(), Proven: g.proof.holds(), Backs: g.backs(req.From),
		}
		if s.Leads {
			s.Members = g.committed()
		}
		if t := g.taking.Load(); t != nil {
			s.Taking = &peerpb.Taking{From: t.From, Keys: t.Keys, Bytes: t.Bytes, Own: t.Own, Seconds: t.Seconds, Tries: t.Tries}
		}
		reply.States = append(reply.States, s)
		reply.Founded, reply.Leads = reply.Founded || s.Founded, reply.Leads || s.Leads
	}
	if len(all) > 0 {
		reply.Applied = reply.States[0].Applied
	}
	return reply, nil
}

// groupsOf is how many groups a node says that there are, 0 if it does not know.
func groupsOf(h *peerpb.HelloReply) int {
	if h.Groups == 0 && !h.Undecided {
		return 1 // a version that knows no other number
	}
	return int(h.Groups)
}

// stateOf is what a node is to a group.
func stateOf(h *peerpb.HelloReply, group int) *peerpb.GroupState {
	switch {
	case group < len(h.States):
		return h.States[group]
	case group == 0 && len(h.States) == 0:
		return &peerpb.GroupState{Founded: h.Founded, Leads: h.Leads, Applied: h.Applied}
	}
	return &peerpb.GroupState{}
}

func (g *group) caughtUp(ctx context.Context, m wire.Member) bool {
	hello, err := g.r.hello(ctx, m)
	return err == nil && stateOf(hello, g.n).Applied+closeEnough > g.fsm.Applied()
}

// catchUp waits until this node has applied all that was acknowledged before it came, and reports whether it has.
func (g *group) catchUp(ctx context.Context) bool {
	for !(g.leading.Load() && g.fsm.Self() != "") {
		if g.whole(ctx) {
			return true
		}
		if !pause(ctx, catchUpLook) {
			return false
		}
	}
	return true
}

// frontier asks the leader; nil means that there was no answer.
func (g *group) frontier(ctx context.Context) *peerpb.FrontierReply {
	id, _ := g.leader.now()
	client, err := g.r.node(id)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	reply, err := client.Frontier(ctx, &peerpb.FrontierRequest{To: id, Group: uint32(g.n)})
	if err != nil {
		return nil
	}
	return reply
}
