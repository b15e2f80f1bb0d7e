package region

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
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
	// tendEvery is how often the leader looks for nodes to take in, and a new node for others to found the region with.
	tendEvery = 200 * time.Millisecond
	// helloTimeout bounds one question to another node, changeTimeout one change of the group.
	helloTimeout  = time.Second
	changeTimeout = 5 * time.Second
	// closeEnough is how many entries behind the leader a node may be when it gets its vote.
	closeEnough = 1000
	// catchUpLook is how often a new node looks whether it has all that was acknowledged.
	catchUpLook = 10 * time.Millisecond
)

// Register adds the service for the other nodes of the region to a server.
func (r *Region) Register(s grpc.ServiceRegistrar) { peerpb.RegisterNodeServer(s, r) }

// ID is the raft id: the node's name and what was drawn for its directory.
func (r *Region) ID() string { return r.id }

func nodeOf(id raft.ServerID) string {
	name, _, _ := strings.Cut(string(id), ".")
	return name
}

func founders(ids []string) raft.Configuration {
	var c raft.Configuration
	for _, id := range ids {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return c
}

// servers is the Raft group, as far as this node knows.
func (r *Region) servers() []raft.Server {
	f := r.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// found waits until this node belongs to a Raft group: it is taken into the one that there is, or the first by name of
// the nodes that are expected founds one with all of them.
func (r *Region) found(ctx context.Context) error {
	if r.cfg.Expect == 1 {
		return nil
	}
	look := time.NewTicker(tendEvery)
	defer look.Stop()
	said := ""
	for len(r.servers()) == 0 {
		ids, why := r.whyNotFound(ctx)
		if why == "" {
			r.cfg.Logger.Info("founding the region", "nodes", ids)
			if err := r.raft.BootstrapCluster(founders(ids)).Error(); err != nil {
				return fmt.Errorf("found the region: %w", err)
			}
			continue
		}
		if why != said {
			r.cfg.Logger.Info("not part of the region yet", "why", why)
			said = why
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
	return nil
}

// whyNotFound returns with whom this node is to found the region, or why it is not to.
func (r *Region) whyNotFound(ctx context.Context) (ids []string, why string) {
	members := r.alive()
	switch {
	case len(members) < r.cfg.Expect:
		return nil, fmt.Sprintf("%d of %d nodes are up", len(members), r.cfg.Expect)
	case len(members) > r.cfg.Expect:
		return nil, fmt.Sprintf("%d nodes are up, and %d are to found the region: stop the others until it is founded",
			len(members), r.cfg.Expect)
	case members[0].ID != r.id:
		return nil, "waiting for node " + members[0].Node + " to found it"
	}
	for _, m := range members {
		if ids = append(ids, m.ID); m.ID == r.id {
			continue
		}
		hello, err := r.hello(ctx, m)
		switch {
		case err != nil:
			return nil, fmt.Sprintf("node %s does not answer: %v", m.Node, err)
		case hello.Founded:
			return nil, "node " + m.Node + " belongs to it already: waiting to be taken in"
		case int(hello.Expect) != r.cfg.Expect:
			return nil, fmt.Sprintf("node %s has --bootstrap-expect %d, this one %d", m.Node, hello.Expect, r.cfg.Expect)
		}
	}
	return ids, ""
}

// alive are the live nodes of the region, by name.
func (r *Region) alive() []wire.Member {
	if r.cfg.Cluster == nil {
		return nil
	}
	all := slices.DeleteFunc(r.cfg.Cluster.Members(), func(m wire.Member) bool { return !m.Alive || m.ID == "" })
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
	reply, err := client.Hello(ctx, &peerpb.HelloRequest{Region: r.cfg.Region})
	if err == nil && reply.Id != m.ID {
		err = fmt.Errorf("it is now %s", reply.Id)
	}
	return reply, err
}

// Hello implements peerpb.NodeServer.
func (r *Region) Hello(_ context.Context, req *peerpb.HelloRequest) (*peerpb.HelloReply, error) {
	if req.Region != r.cfg.Region {
		return nil, status.Errorf(codes.FailedPrecondition, "this node is of region %s, not %s", r.cfg.Region, req.Region)
	}
	return &peerpb.HelloReply{
		Id: r.id, Expect: uint32(r.cfg.Expect), Founded: len(r.servers()) > 0, Leads: r.leading.Load(),
		Applied: r.fsm.Applied(), Level: machine.FeatureLevel,
	}, nil
}

// tend takes live nodes into the group, one change at a time, while this node leads.
func (r *Region) tend(ctx context.Context) error {
	look := time.NewTicker(tendEvery)
	defer look.Stop()
	for {
		if err := r.change(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("change of the region's nodes", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// change makes at most one change: a node that has lost its directory replaces the one that it was, a new one follows
// without a vote, and gets one when it has caught up, if one is free.
func (r *Region) change(ctx context.Context) error {
	servers := r.servers()
	voters := 0
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	for _, m := range r.alive() {
		i := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == m.ID })
		switch {
		case i < 0:
			return r.take(ctx, servers, m)
		case servers[i].Suffrage != raft.Voter && voters < r.cfg.Expect && r.caughtUp(ctx, m):
			r.cfg.Logger.Info("node gets its vote", "id", m.ID)
			return r.raft.AddVoter(raft.ServerID(m.ID), raft.ServerAddress(m.ID), 0, changeTimeout).Error()
		}
	}
	return nil
}

func (r *Region) take(ctx context.Context, servers []raft.Server, m wire.Member) error {
	hello, err := r.hello(ctx, m)
	if err != nil {
		return fmt.Errorf("node %s: %w", m.Node, err)
	}
	if hello.Founded {
		return fmt.Errorf("node %s belongs to another group that calls itself %s: stop it, empty its --data, and start it again", m.Node, r.cfg.Region)
	}
	for _, s := range servers {
		if nodeOf(s.ID) == m.Node {
			r.cfg.Logger.Warn("node came back without its directory: what it was leaves the region", "was", s.ID, "is", m.ID)
			return r.raft.RemoveServer(s.ID, 0, changeTimeout).Error()
		}
	}
	r.cfg.Logger.Info("node follows", "id", m.ID)
	return r.raft.AddNonvoter(raft.ServerID(m.ID), raft.ServerAddress(m.ID), 0, changeTimeout).Error()
}

func (r *Region) caughtUp(ctx context.Context, m wire.Member) bool {
	hello, err := r.hello(ctx, m)
	return err == nil && hello.Applied+closeEnough > r.fsm.Applied()
}

// catchUp waits until this node has applied all that was acknowledged before it came, and reports whether it has.
func (r *Region) catchUp(ctx context.Context) bool {
	look := time.NewTicker(catchUpLook)
	defer look.Stop()
	for frontier := uint64(0); ; {
		switch {
		case r.leading.Load() && r.Self() != "":
			return true
		case frontier == 0:
			frontier = r.frontier(ctx)
		case r.fsm.Applied() >= frontier && r.Self() != "":
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
}

// frontier asks the leader; 0 means that there was no answer.
func (r *Region) frontier(ctx context.Context) uint64 {
	id, _ := r.leader.now()
	client, err := r.node(id)
	if err != nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	reply, err := client.Frontier(ctx, &peerpb.FrontierRequest{To: id})
	if err != nil {
		return 0
	}
	return reply.Applied
}

// StepDown hands the lead to another node, if there is one and this node has it.
func (r *Region) StepDown() error {
	if !r.leading.Load() || len(r.servers()) == 1 {
		return nil
	}
	_, done, ok := r.askRaft(context.Background())
	if !ok {
		return nil
	}
	defer done()
	return r.raft.LeadershipTransfer().Error()
}

// Leads reports whether this node leads the region and has applied all that was committed before it did.
func (r *Region) Leads() bool { return r.leading.Load() }

// Leader is the peer address of the other node that leads the region, "" if there is none or it is not known.
func (r *Region) Leader() string {
	id, _ := r.leader.now()
	if r.cfg.Cluster == nil || id == r.id {
		return ""
	}
	for _, m := range r.cfg.Cluster.Members() {
		if m.ID == id {
			return m.Addr
		}
	}
	return ""
}
