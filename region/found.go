package region

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/roamsync/roam/wire/peerpb"
)

// settle finds out how many groups the region has, if the directory does not say: the nodes that belong to it know, and
// before there is a region, the node that is to found it decides.
func (r *Region) settle(ctx context.Context) error {
	if r.count > 0 {
		return nil
	}
	for said := ""; ; {
		count, why, err := r.howMany(ctx)
		switch {
		case err != nil:
			return err
		case count > 0:
			if err := r.decide(count); err != nil {
				return err
			}
			return r.openGroups()
		case why != said:
			r.sayOutside(why)
			said = why
		}
		if !pause(ctx, tendEvery) {
			return nil
		}
	}
}

// sayOutside tells operators why this node is not part of the region yet.
func (r *Region) sayOutside(why string) {
	r.cfg.Logger.Info("not part of the region yet", "why", why)
	r.outside.Store(&why)
}

// howMany returns the number of the region's groups, or why it is not known.
func (r *Region) howMany(ctx context.Context) (count int, why string, err error) {
	wish := r.cfg.Groups
	ids, why := r.meet(ctx, func(node string, h *peerpb.HelloReply) string {
		switch n := groupsOf(h); {
		case n > 0:
			count = n
		case wish == 0:
			wish = int(h.Wish)
		case h.Wish != 0 && int(h.Wish) != wish:
			return fmt.Sprintf("node %s has --groups %d, another %d", node, h.Wish, wish)
		}
		return ""
	})
	switch {
	case count > 0:
		return count, "", r.agree(count)
	case ids == nil:
		return 0, why, nil
	}
	return max(wish, 1), "", nil
}

// found waits until this node belongs to all groups: it is taken into those that there are, or the first by name of the
// nodes that are expected founds them with all of them.
func (r *Region) found(ctx context.Context) error {
	defer r.outside.Store(nil)
	for said := ""; r.several; {
		var missing []*group
		for _, g := range r.all() {
			if len(g.servers()) == 0 {
				missing = append(missing, g)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		ids, why := r.whyNotFound(ctx, missing)
		if ids != nil {
			r.cfg.Logger.Info("founding the region", "nodes", ids, "groups", r.count)
			for _, g := range missing {
				if err := g.raft.BootstrapCluster(founders(ids)).Error(); err != nil {
					return fmt.Errorf("found group %d of the region: %w", g.n, err)
				}
			}
			continue
		}
		if why != said {
			r.sayOutside(why)
			said = why
		}
		if !pause(ctx, tendEvery) {
			return nil
		}
	}
	return nil
}

// whyNotFound returns with whom this node is to found groups, or why it is not to.
func (r *Region) whyNotFound(ctx context.Context, groups []*group) (ids []string, why string) {
	there := ""
	ids, why = r.meet(ctx, func(node string, h *peerpb.HelloReply) string {
		if n := groupsOf(h); n != r.count {
			return fmt.Sprintf("node %s does not know yet that there are %d Raft groups", node, r.count)
		}
		for _, g := range groups {
			if stateOf(h, g.n).Founded {
				there = "node " + node + " belongs to it already: waiting to be taken in"
				return there
			}
		}
		return ""
	})
	return ids, cmp.Or(there, why) // a region that is there is not waited for to be founded
}

// meet asks all other live nodes what they are to the region. It returns the nodes with whom this one is to found it, or
// why it is not to: look may have a reason too. Nodes are asked even if there is a reason already.
func (r *Region) meet(ctx context.Context, look func(node string, h *peerpb.HelloReply) (why string)) (ids []string, why string) {
	members := r.alive()
	switch {
	case !r.founds:
		why = "waiting to be taken in by the nodes of the region"
	case len(members) < r.cfg.Expect:
		why = fmt.Sprintf("%d of %d nodes are up", len(members), r.cfg.Expect)
	case len(members) > r.cfg.Expect:
		why = fmt.Sprintf("%d nodes are up, and %d are to found the region: stop the others until it is founded",
			len(members), r.cfg.Expect)
	case members[0].ID != r.id:
		why = "waiting for node " + members[0].Node + " to found it"
	}
	for _, m := range members {
		if ids = append(ids, m.ID); m.ID == r.id {
			continue
		}
		hello, err := r.hello(ctx, m)
		not := ""
		switch {
		case err != nil:
			not = fmt.Sprintf("node %s does not answer: %v", m.Node, err)
		case int(hello.Expect) != r.cfg.Expect:
			not = fmt.Sprintf("node %s has --bootstrap-expect %d, this one %d", m.Node, hello.Expect, r.cfg.Expect)
		}
		if err == nil {
			if w := look(m.Node, hello); w != "" {
				not = w
			}
		}
		if why == "" {
			why = not
		}
	}
	if why != "" {
		return nil, why
	}
	return ids, ""
}

// pause waits, and reports whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
