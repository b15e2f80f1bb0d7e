package region

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

var (
	errNotLeader = fmt.Errorf("this node does not lead its region: %w", wire.ErrUnavailable)
	errNoLeader  = fmt.Errorf("the region has no leader that this node can reach: %w", wire.ErrUnavailable)
)

// forward has the leader commit a batch. Its puts become events here when they are applied here. Everything else is
// the business of a leader, and of nobody who has ceased to be one.
func (g *group) forward(ctx context.Context, batch []*proposal) ([]machine.Result, error) {
	results := make([]machine.Result, len(batch))
	req := &peerpb.ProposeRequest{Group: uint32(g.n)}
	for i, p := range batch {
		if p.cmd.Kind == machine.KindPut {
			req.Commands = append(req.Commands, p.cmd.Encode())
		} else {
			results[i].Err = errNotLeader
		}
	}
	if len(req.Commands) == 0 {
		return results, nil
	}
	id, changed := g.leader.now()
	client, err := g.r.node(id)
	if err != nil {
		return nil, err
	}
	req.To = id
	ctx, cancel := context.WithDeadline(ctx, lastUntil(batch, g.r.cfg.CommitDeadline))
	defer cancel()
	go func() { // a leader that hangs is not waited for once there is another; ends with this call
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	if _, err := client.Propose(ctx, req); err != nil {
		g.r.metrics.forwardErrors.Inc()
		if status.Code(err) == codes.Aborted { // see full
			return nil, errFull
		}
		return nil, fmt.Errorf("forward to %s: %w", id, err)
	}
	g.r.metrics.forwarded.Add(float64(len(req.Commands)))
	return results, nil
}

// lastUntil is when the time of all proposals of a batch is over.
func lastUntil(batch []*proposal, deadline time.Duration) (last time.Time) {
	for _, p := range batch {
		if t := p.until(deadline); t.After(last) {
			last = t
		}
	}
	return last
}

// node reaches another node of the region by its raft id.
func (r *Region) node(id string) (peerpb.NodeClient, error) {
	if id == "" || id == r.id || r.cfg.Cluster == nil {
		return nil, errNoLeader
	}
	for _, m := range r.cfg.Cluster.Members() {
		if m.ID == id {
			return r.cfg.Cluster.Node(m.Addr)
		}
	}
	return nil, fmt.Errorf("membership does not know node %s: %w", id, wire.ErrUnavailable)
}

// Propose implements peerpb.NodeServer: it commits what entered by another node.
func (r *Region) Propose(ctx context.Context, req *peerpb.ProposeRequest) (*peerpb.ProposeReply, error) {
	g, err := r.meant(req.To, req.Group)
	if err != nil {
		return nil, err
	}
	if !g.leading.Load() {
		return nil, status.Error(codes.Unavailable, "this node does not lead its region")
	}
	if err := g.full(); err != nil {
		return nil, status.Error(codes.Aborted, err.Error())
	}
	if len(req.Commands) > batchOps {
		return nil, status.Errorf(codes.InvalidArgument, "%d commands: at most %d", len(req.Commands), batchOps)
	}
	done := make(chan machine.Result, len(req.Commands))
	for _, b := range req.Commands {
		c, err := machine.DecodeCommand(b)
		if err != nil || c.Kind != machine.KindPut || r.of(crdt.PartitionOf(c.Session)) != g {
			return nil, status.Errorf(codes.InvalidArgument, "not a put of group %d: %v", g.n, err)
		}
		select {
		case g.queue <- &proposal{cmd: c, since: time.Now(), done: done}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var errs error
	for range req.Commands {
		select {
		case res := <-done:
			errs = errors.Join(errs, res.Err)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if errs != nil {
		return nil, status.Error(codes.Unavailable, errs.Error())
	}
	return &peerpb.ProposeReply{}, nil
}

// meant refuses what was meant for whoever had this node's name or address before, and returns the group that is meant.
func (r *Region) meant(to string, group uint32) (*group, error) {
	if to != r.id {
		return nil, status.Errorf(codes.FailedPrecondition, "this is node %s, not %s", r.id, to)
	}
	if all := r.all(); int(group) < len(all) {
		return all[group], nil
	}
	return nil, status.Errorf(codes.Unavailable, "this node does not know of group %d", group)
}

// Frontier implements peerpb.NodeServer.
func (r *Region) Frontier(_ context.Context, req *peerpb.FrontierRequest) (*peerpb.FrontierReply, error) {
	g, err := r.meant(req.To, req.Group)
	if err != nil {
		return nil, err
	}
	_, done, ok := r.askRaft(context.Background())
	if !ok {
		return nil, status.Error(codes.Unavailable, "this node is stopping")
	}
	defer done()
	term := g.term.Load()
	if !g.leads() || g.raft.VerifyLeader().Error() != nil || g.fsm.Self() == "" || !g.leads() || g.term.Load() != term {
		return nil, status.Error(codes.Unavailable, "this node does not lead its region")
	}
	return &peerpb.FrontierReply{Applied: g.fsm.Applied(), Term: term}, nil
}
