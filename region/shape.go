package region

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// shapeLevel is from which feature level on what is wanted of the nodes can be committed.
const shapeLevel = 2

const (
	// levelQuiet is how long all nodes must have been able to apply a feature level before it is committed. Until then they can go
	// back to the version before.
	levelQuiet = time.Minute
	// levelLook is how often the leader looks whether they are.
	levelLook = time.Second
)

// level is the region's committed feature level: what may be proposed.
func (r *Region) level() uint32 {
	if all := r.all(); len(all) > 0 {
		return all[0].fsm.Level()
	}
	return 0
}

// size is how many nodes are wanted to vote.
func (r *Region) size() int {
	all := r.all()
	if len(all) == 0 {
		return r.cfg.Expect
	}
	if n := all[0].fsm.Size(); n > 0 {
		return n
	}
	if r.cfg.Expect > 0 {
		return r.cfg.Expect
	}
	voters := 0
	for _, votes := range all[0].votes() {
		if votes {
			voters++
		}
	}
	return max(voters, 1) | 1
}

// outs are the nodes that are out of the region, by raft id.
func (r *Region) outs() (map[string]machine.Out, error) {
	all := r.all()
	if len(all) == 0 {
		return nil, nil
	}
	outs, err := all[0].fsm.Outs()
	if err != nil {
		err = fmt.Errorf("read which nodes are out: %w", err)
		r.fail(err)
	}
	return outs, err
}

func (r *Region) out(id string) machine.Out {
	outs, _ := r.outs() // an error ends the node
	return outs[id]
}

// reshape commits a change of what is wanted. Only the first group can.
func (g *group) reshape(ctx context.Context, s machine.Shape) error {
	_, err := g.do(ctx, &machine.Command{Kind: machine.KindShape, Shape: s})
	if err != nil {
		return fmt.Errorf("commit what is wanted of the nodes: %w", err)
	}
	return nil
}

// levelSeat is a leader's memory of what the nodes can apply.
type levelSeat struct {
	fresh  bool // the region has just begun: there is no version to go back to
	looked time.Time
	to     uint32
	since  time.Time // since when all nodes could apply to
}

// due reports whether the level is to be raised now, given what all nodes can apply.
func (s *levelSeat) due(now time.Time, committed, able uint32, quiet time.Duration) bool {
	if s.to != able {
		s.to, s.since = able, now
	}
	return able > committed && (s.fresh || now.Sub(s.since) >= quiet)
}

// shapeUp commits the feature level that all nodes can apply, once they could for long enough, and the size that the region
// was founded with.
func (g *group) shapeUp(ctx context.Context) error {
	now := time.Now()
	if now.Sub(g.level.looked) >= min(levelLook, g.r.cfg.levelQuiet) {
		g.level.looked = now
		if able, _ := g.r.able(ctx); g.level.due(now, g.r.level(), able, g.r.cfg.levelQuiet) {
			g.r.cfg.Logger.Info("feature level rises: versions that cannot apply it are refused from now on", "level", able)
			if err := g.reshape(ctx, machine.Shape{Level: able}); err != nil {
				return err
			}
		}
	}
	if g.r.level() >= shapeLevel && g.fsm.Size() == 0 {
		return g.reshape(ctx, machine.Shape{Size: uint32(g.r.size())})
	}
	return nil
}

// able is the feature level that all nodes of the region can apply, 0 if one of them does not say, and who holds it there.
func (r *Region) able(ctx context.Context) (level uint32, slowest string) {
	level = r.cfg.level
	asked := map[string]bool{r.id: true}
	for _, m := range r.alive() {
		if asked[m.ID] || r.out(m.ID) == machine.OutLeft {
			continue
		}
		asked[m.ID] = true
		h, err := r.hello(ctx, m)
		if err != nil {
			return 0, m.ID
		}
		if h.Level < level {
			level, slowest = h.Level, m.ID
		}
	}
	for _, g := range r.all() {
		for id := range g.votes() {
			if !asked[id] {
				return 0, id
			}
		}
	}
	return level, slowest
}

// Resize has another number of nodes vote: 1, 3 or 5. It returns once that is committed; the leaders bring it about.
func (r *Region) Resize(ctx context.Context, size int) (told string, err error) {
	return r.Ask(ctx, &peerpb.ReshapeRequest{Size: uint32(max(size, 0))})
}

// Leave has a node leave the region for good, by name or raft id. Force has the dead leave with it, if without it there were no
// majority otherwise. It returns once that is committed; the leaders bring it about, and the node, if it lives, ends.
func (r *Region) Leave(ctx context.Context, node string, force bool) (told string, err error) {
	return r.Ask(ctx, &peerpb.ReshapeRequest{Leave: node, Force: force})
}

// Ask has the leader of the first group change what is wanted of the nodes.
func (r *Region) Ask(ctx context.Context, req *peerpb.ReshapeRequest) (told string, err error) {
	all := r.all()
	if len(all) == 0 {
		return "", errUnknown
	}
	if all[0].leading.Load() {
		return all[0].want(ctx, req)
	}
	id, _ := all[0].leader.now()
	client, err := r.node(id)
	if err != nil {
		return "", err
	}
	req.To = id
	reply, err := client.Reshape(ctx, req)
	switch said := status.Convert(err); said.Code() {
	case codes.OK:
		return reply.Told, nil
	case codes.FailedPrecondition:
		return "", errors.New(said.Message())
	default:
		return "", fmt.Errorf("%w: %s", wire.ErrUnavailable, said.Message())
	}
}

// Reshape implements peerpb.NodeServer.
func (r *Region) Reshape(ctx context.Context, req *peerpb.ReshapeRequest) (*peerpb.ReshapeReply, error) {
	g, err := r.meant(req.To, 0)
	if err != nil {
		return nil, err
	}
	told, err := g.want(ctx, req)
	if err != nil {
		code := codes.FailedPrecondition
		if errors.Is(err, wire.ErrUnavailable) {
			code = codes.Unavailable
		}
		return nil, status.Error(code, err.Error())
	}
	return &peerpb.ReshapeReply{Told: told}, nil
}

// want commits what is asked for, if it can be.
func (g *group) want(ctx context.Context, req *peerpb.ReshapeRequest) (told string, err error) {
	if !g.leading.Load() {
		return "", errNotLeader
	}
	if req.Leave == "" {
		if n := req.Size; n != 1 && n != 3 && n != 5 {
			return "", fmt.Errorf("%d nodes cannot be what votes in a region: 1, 3 or 5 can", n)
		}
		if err := g.reshape(ctx, machine.Shape{Size: req.Size}); err != nil {
			return "", err
		}
		g.r.cfg.Logger.Info("another number of nodes is to vote", "size", req.Size)
		told := fmt.Sprintf("%d nodes are to vote.", req.Size)
		if req.Size == 1 {
			told = "1 node is to vote."
		}
		return told + " roam status shows how far that is.", nil
	}
	outs, err := g.r.outs()
	if err != nil {
		return "", err
	}
	nodes := g.view(outs)
	out, told, err := leaving(nodes, named(nodes, req.Leave), req.Force)
	if err != nil {
		return "", err
	}
	for _, id := range out {
		g.r.cfg.Logger.Warn("node is to leave the region for good", "id", id, "forced", req.Force)
		if err := g.reshape(ctx, machine.Shape{Out: id, As: machine.OutLeft}); err != nil {
			return "", err
		}
	}
	return told, nil
}

// named finds a node by its name or raft id.
func named(nodes []seen, name string) string {
	for _, n := range nodes {
		if n.id == name || nodeOfID(n.id) == name {
			return n.id
		}
	}
	return name
}
