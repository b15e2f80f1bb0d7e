package region

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// heedEvery is how often a node looks whether it is to leave, and then whether it has.
const heedEvery = 250 * time.Millisecond

// Left is closed when the node has left the region for good: it is in none of the groups any more, and nobody waits for it.
func (r *Region) Left() <-chan struct{} { return r.left }

// checkLeft refuses the directory of a node that has left.
func (r *Region) checkLeft() error {
	v, err := r.own().Get(machine.NodeKey(nodeLeft))
	if err == nil && v != nil && !r.recovering {
		err = fmt.Errorf("node %s has left the region for good: empty the directory, and it joins as a new one", r.id)
	}
	return err
}

// heed keeps note of whether there are other nodes, and takes part in the node's own leaving: it hands over what it leads, waits until the
// others have taken it out, and says so.
func (r *Region) heed(ctx context.Context) error {
	several := -1
	var f forgotten
	for !r.toLeave(ctx, &f) {
		var err error
		if several, err = r.noteSeveral(several); err != nil {
			return err
		}
		if !pause(ctx, heedEvery) {
			return nil
		}
	}
	r.cfg.Logger.Warn("this node leaves the region for good", "id", r.id)
	for !r.released(ctx) {
		if err := r.StepDown(); err != nil {
			r.cfg.Logger.Info("the lead is not handed over yet", "err", err)
		}
		if !pause(ctx, heedEvery) {
			return nil
		}
	}
	if err := r.note(nodeLeft, 1); err != nil {
		return fmt.Errorf("note that the node has left: %w", err)
	}
	r.cfg.Logger.Warn("this node has left the region: its --data is of no use any more", "id", r.id)
	close(r.left)
	<-ctx.Done()
	return nil
}

// toLeave reports whether this node is to leave. It may have been taken out while it was away, and then hears it only from others.
func (r *Region) toLeave(ctx context.Context, f *forgotten) bool {
	if r.out(r.id) == machine.OutLeft {
		return true
	}
	if id, _ := r.all()[0].leader.now(); id != "" {
		*f = forgotten{}
		return false
	}
	without := false
	for _, h := range r.others(ctx) {
		if h.Left {
			return true
		}
		in := stateOf(h, 0).Members
		without = without || len(in) > 0 && !slices.Contains(in, r.id)
	}
	if f.due(time.Now(), without && len(r.all()[0].servers()) > 0) {
		r.cfg.Logger.Error("the region goes on without this node: what is in its --data is of a group that is no more. Stop it, empty its --data, and start it again",
			"id", r.id)
	}
	return false
}

// forgottenAfter is how long a region has to go on without a node that was part of it before the node says so: one that was taken out because it
// was dead is taken in again before that.
const forgottenAfter = 5 * time.Second

// forgotten is how long a node has seen that its region goes on without it.
type forgotten struct {
	since time.Time
	said  bool
}

// due reports whether it is to be said, which is once.
func (f *forgotten) due(now time.Time, so bool) bool {
	switch {
	case !so:
		*f = forgotten{}
	case f.since.IsZero():
		f.since = now
	case !f.said && now.Sub(f.since) >= forgottenAfter:
		f.said = true
		return true
	}
	return false
}

// released reports whether the leaders of all groups have committed that this node is not in them.
func (r *Region) released(ctx context.Context) bool {
	others := r.others(ctx)
	for _, g := range r.all() {
		if !slices.ContainsFunc(others, func(h *peerpb.HelloReply) bool {
			in := stateOf(h, g.n).Members
			return len(in) > 0 && !slices.Contains(in, r.id)
		}) {
			return false
		}
	}
	return true
}

// others is what the other live nodes say.
func (r *Region) others(ctx context.Context) (all []*peerpb.HelloReply) {
	for _, m := range r.alive() {
		if m.ID == r.id {
			continue
		}
		if h, err := r.hello(ctx, m); err == nil {
			all = append(all, h)
		}
	}
	return all
}

// committed is who is in the group, nothing while that changes.
func (g *group) committed() (ids []string) {
	f := g.raft.GetConfiguration()
	if errors.Join(f.Error()) != nil || f.Index() > g.raft.CommitIndex() {
		return nil
	}
	for _, s := range f.Configuration().Servers {
		ids = append(ids, string(s.ID))
	}
	return ids
}
