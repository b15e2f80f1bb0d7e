package region

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/wire"
)

const (
	// spreadEvery is how often a leader looks whether another node should lead its group.
	spreadEvery = time.Second
	// ledFor is how long a node leads before it hands a group over, and steadyFor how long the other one must have been
	// able to lead: a node that comes and goes is given nothing.
	ledFor    = 3 * time.Second
	steadyFor = 3 * time.Second
	// handOverAgain is when a hand-over that failed is tried again.
	handOverAgain = 10 * time.Second
	// handOverLag is how many entries behind the leader a node may be that is handed the lead.
	handOverLag = 100
)

// prefers orders the voters of a group, who are given by name: who should lead it, if the one before cannot. Each group
// begins with another voter, and every other pair goes round the other way: when one of three nodes is gone the others share
// what it led, to four groups or eight evenly, and when it is there again just that comes back to it.
func prefers(group int, voters []string) (order []string) {
	n := len(voters)
	for k := range voters {
		if group/2%2 == 1 {
			k = n - k
		}
		order = append(order, voters[(group+k)%n])
	}
	return order
}

// seat is a leader's memory of who else should lead.
type seat struct {
	looked time.Time
	led    time.Time // since when this node leads
	to     string    // who should, "" for this node
	since  time.Time // since when to could
	after  time.Time // no sooner is it tried
}

// due reports whether the lead is to be handed over now, given who should lead.
func (s *seat) due(now time.Time, to string) bool {
	if s.to != to {
		s.to, s.since = to, now
	}
	return to != "" && now.Sub(s.led) >= ledFor && now.Sub(s.since) >= steadyFor && !now.Before(s.after)
}

// spread hands the group to the node that should lead it, if that is another one. A region of one group has nothing to
// spread.
func (g *group) spread(ctx context.Context) {
	now := time.Now()
	if g.r.count == 1 || now.Sub(g.seat.looked) < spreadEvery || g.r.draining.Load() {
		return
	}
	g.seat.looked = now
	to := g.heir(ctx)
	if !g.seat.due(now, to) {
		return
	}
	g.r.cfg.Logger.Info("handing the lead of a group to the node that should have it", "group", g.n, "to", to)
	if err := g.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to)).Error(); err != nil {
		g.seat.after = time.Now().Add(handOverAgain)
		g.r.cfg.Logger.Warn("nobody took the lead of a group", "group", g.n, "to", to, "err", err)
	}
}

// heir is the node that should lead the group, "" if that is this one.
func (g *group) heir(ctx context.Context) string {
	var voters []string
	for _, s := range g.servers() {
		if s.Suffrage == raft.Voter {
			voters = append(voters, string(s.ID))
		}
	}
	slices.Sort(voters)
	alive := g.r.alive()
	for _, id := range prefers(g.n, voters) {
		if id == g.r.id {
			return ""
		}
		if i := slices.IndexFunc(alive, func(m wire.Member) bool { return m.ID == id }); i >= 0 && g.able(ctx, alive[i]) {
			return id
		}
	}
	return ""
}

// able reports whether a node could lead the group now.
func (g *group) able(ctx context.Context, m wire.Member) bool {
	h, err := g.r.hello(ctx, m)
	return err == nil && !h.Draining && groupsOf(h) == g.r.count && stateOf(h, g.n).Applied+handOverLag > g.fsm.Applied()
}

// StepDown hands the groups that this node leads to other nodes, if there are any. From then on it is given none.
func (r *Region) StepDown() error {
	r.draining.Store(true)
	_, done, ok := r.askRaft(context.Background())
	if !ok {
		return nil
	}
	defer done()
	errs := make([]error, len(r.all()))
	var handing sync.WaitGroup
	for i, g := range r.all() {
		if g.leading.Load() && !g.alone() {
			handing.Go(func() { errs[i] = g.raft.LeadershipTransfer().Error() })
		}
	}
	handing.Wait()
	return errors.Join(errs...)
}
