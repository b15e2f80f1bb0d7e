package region

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// tend brings about what is wanted of the group's nodes, one change at a time, while this node leads.
func (g *group) tend(ctx context.Context) error {
	g.deadSince, g.troubled = map[string]time.Time{}, ""
	look := time.NewTicker(tendEvery)
	defer look.Stop()
	for {
		said := ""
		if err := g.change(ctx); err != nil && ctx.Err() == nil {
			if said = err.Error(); said != g.troubled {
				g.r.cfg.Logger.Warn("a change of the region's nodes has to wait", "group", g.n, "err", err)
			}
		}
		g.troubled = said
		g.spread(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// change makes at most one change: new nodes follow without a vote, and who votes is what the first group's size asks for; the other
// groups do as the first one did.
func (g *group) change(ctx context.Context) error {
	outs, err := g.r.outs()
	if err != nil {
		return err
	}
	if g.n == 0 {
		if err := g.shapeUp(ctx); err != nil {
			return err
		}
	}
	took, strangers := g.takeIn(ctx, outs)
	if took {
		return strangers
	}
	look := g.outlook(ctx, outs)
	c := change{}
	if g.n == 0 {
		c = look.plan(g.r.size(), g.r.level() >= shapeLevel)
	} else {
		c = look.mirror(g.r.all()[0].votes())
	}
	return errors.Join(strangers, g.carryOut(ctx, c))
}

// votes is who is in the group, and votes.
func (g *group) votes() map[string]bool {
	all := map[string]bool{}
	for _, s := range g.servers() {
		all[string(s.ID)] = s.Suffrage == raft.Voter
	}
	return all
}

// voters are those who vote.
func (g *group) voters() map[string]bool {
	all := g.votes()
	maps.DeleteFunc(all, func(_ string, votes bool) bool { return !votes })
	return all
}

func (g *group) outlook(ctx context.Context, outs map[string]machine.Out) *outlook {
	alive := g.r.alive()
	o := &outlook{self: g.r.id}
	o.ready = func(id string) bool {
		i := slices.IndexFunc(alive, func(m wire.Member) bool { return m.ID == id })
		return i >= 0 && g.caughtUp(ctx, alive[i])
	}
	o.nodes = g.view(outs)
	for i, n := range o.nodes {
		o.nodes[i].lost = g.lost(n.id, n.alive)
	}
	return o
}

// view is who is in the group, and how.
func (g *group) view(outs map[string]machine.Out) (nodes []seen) {
	alive := g.r.alive()
	for _, s := range g.servers() {
		n := seen{id: string(s.ID), votes: s.Suffrage == raft.Voter, out: outs[string(s.ID)]}
		n.alive = n.id == g.r.id || slices.ContainsFunc(alive, func(m wire.Member) bool { return m.ID == n.id })
		nodes = append(nodes, n)
	}
	return nodes
}

// lost reports whether a node has been dead for long, as far as this leader has seen.
func (g *group) lost(id string, alive bool) bool {
	since, dead := g.deadSince[id]
	switch {
	case alive:
		delete(g.deadSince, id)
	case !dead:
		g.deadSince[id] = time.Now()
	default:
		return time.Since(since) >= g.r.cfg.lostAfter
	}
	return false
}

// carryOut makes a change. It returns when that is committed.
func (g *group) carryOut(ctx context.Context, c change) error {
	id, addr := raft.ServerID(c.id), raft.ServerAddress(c.id)
	log := g.r.cfg.Logger.With("group", g.n, "id", c.id, "why", c.why)
	switch c.do {
	case promote:
		log.Info("node gets its vote")
		return g.raft.AddVoter(id, addr, 0, changeTimeout).Error()
	case demote:
		log.Info("node follows without a vote from now on")
		return g.raft.DemoteVoter(id, 0, changeTimeout).Error()
	case remove:
		log.Warn("node leaves the region")
		if g.n == 0 && g.r.out(c.id) == machine.OutNot {
			if err := g.reshape(ctx, machine.Shape{Out: c.id, As: machine.OutReplaced}); err != nil {
				return err
			}
		}
		return g.raft.RemoveServer(id, 0, changeTimeout).Error()
	case handOver:
		log.Info("handing the lead over before the own vote goes")
		return g.raft.LeadershipTransferToServer(id, addr).Error()
	}
	return nil
}

// takeIn has one live node follow that is not in the group yet, and reports whether the group has changed. The error says
// who cannot follow, and why; others can all the same.
func (g *group) takeIn(ctx context.Context, outs map[string]machine.Out) (took bool, err error) {
	servers := g.servers()
	for _, m := range g.r.alive() {
		if g.has(m.ID) || outs[m.ID] == machine.OutLeft {
			continue
		}
		took, why := g.take(ctx, servers, m, outs[m.ID])
		if err = errors.Join(err, why); took {
			return true, err
		}
	}
	return false, err
}

func (g *group) take(ctx context.Context, servers []raft.Server, m wire.Member, out machine.Out) (took bool, err error) {
	hello, err := g.r.hello(ctx, m)
	if err != nil {
		return false, fmt.Errorf("node %s: %w", m.Node, err)
	}
	switch n := groupsOf(hello); {
	case n == 0:
		return false, nil // it is about to hear how many groups there are
	case n != g.r.count:
		return false, fmt.Errorf("node %s has %d Raft groups, this region %d: stop it, empty its --data, and start it again", m.Node, n, g.r.count)
	case hello.Level < g.r.level():
		return false, fmt.Errorf("node %s applies up to feature level %d, and the region is at %d: install the newer version", m.Node, hello.Level, g.r.level())
	case out == machine.OutReplaced && g.n > 0 && !g.r.all()[0].has(m.ID):
		return false, nil // the first group goes first
	case stateOf(hello, g.n).Founded && out != machine.OutReplaced && !(g.n > 0 && g.r.all()[0].has(m.ID)):
		return false, fmt.Errorf("node %s belongs to another group that calls itself %s: stop it, empty its --data, and start it again", m.Node, g.r.cfg.Region)
	}
	for _, s := range servers {
		if nodeOf(s.ID) == m.Node {
			g.r.cfg.Logger.Warn("node came back without its directory: what it was leaves the region", "group", g.n, "was", s.ID, "is", m.ID)
			return true, g.raft.RemoveServer(s.ID, 0, changeTimeout).Error()
		}
	}
	if out == machine.OutReplaced && g.n == 0 {
		if err := g.reshape(ctx, machine.Shape{Out: m.ID}); err != nil {
			return false, err
		}
	}
	g.r.cfg.Logger.Info("node follows", "group", g.n, "id", m.ID)
	return true, g.raft.AddNonvoter(raft.ServerID(m.ID), raft.ServerAddress(m.ID), 0, changeTimeout).Error()
}
