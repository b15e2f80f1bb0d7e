package region

import (
	"fmt"
	"maps"

	"github.com/roamsync/roam/region/machine"
)

// pending is what is wanted of the nodes and not so yet, as far as this node knows.
func (r *Region) pending(nodes []NodeStatus) []string {
	all := r.all()
	if why := r.outside.Load(); why != nil || len(all) == 0 {
		return []string{notPart(why)}
	}
	words := []string{}
	outs, _ := r.outs() // an error ends the node
	for _, n := range nodes {
		for _, g := range all {
			if g.has(n.ID) && outs[n.ID] == machine.OutLeft {
				words = append(words, fmt.Sprintf("node %s is to leave", n.ID))
				break
			}
		}
	}
	words = append(words, pendingLevel(nodes, r.level(), r.cfg.level)...)
	first := all[0].votes()
	words = append(words, pendingVotes(nodes, first, r.size())...)
	for _, g := range all[1:] {
		if !maps.Equal(g.votes(), first) {
			words = append(words, fmt.Sprintf("group %d has other nodes than the first", g.n))
		}
	}
	return words
}

// notPart says that a node is in no group of its region yet, and why, if that is known.
func notPart(why *string) string {
	const not = "this node is not part of the region yet"
	if why == nil {
		return not
	}
	return not + ": " + *why
}

// pendingLevel is what a feature level that this node can apply waits for.
func pendingLevel(nodes []NodeStatus, committed, own uint32) (words []string) {
	if committed >= own {
		return nil
	}
	for _, n := range nodes {
		switch {
		case n.Role == roleNone:
		case n.Error != "":
			words = append(words, fmt.Sprintf("feature level %d waits for node %s, which does not answer: start it, or have it leave", own, n.ID))
		case n.Level < own:
			words = append(words, fmt.Sprintf("feature level %d waits for node %s, which applies up to %d", own, n.ID, n.Level))
		}
	}
	if words == nil {
		words = []string{fmt.Sprintf("feature level %d comes when all nodes have been able to apply it for a minute", own)}
	}
	return words
}

// pendingVotes is how the wanted number of votes comes about.
func pendingVotes(nodes []NodeStatus, group map[string]bool, size int) []string {
	votes, spare := 0, 0
	for _, n := range nodes {
		switch voting, in := group[n.ID]; {
		case voting:
			votes++
		case in && n.Alive:
			spare++
		}
	}
	switch missing := size - votes - spare; {
	case votes == size:
		return nil
	case votes > size:
		return []string{fmt.Sprintf("%d nodes vote, more than are wanted: they lose their vote one by one", votes)}
	case missing > 0:
		return []string{fmt.Sprintf("of %d nodes that are wanted to vote %d do, and %d more have to be started (new ones with --bootstrap-expect 0)", size, votes, missing)}
	default:
		return []string{fmt.Sprintf("of %d nodes that are wanted to vote %d do: others get a vote when they have caught up", size, votes)}
	}
}

// NotReady is why Ready is not closed, for operators; empty: it is.
func (r *Region) NotReady() string {
	select {
	case <-r.ready:
		return ""
	default:
	}
	all := r.all()
	for _, g := range all {
		if t := g.taking.Load(); t != nil {
			return fmt.Sprintf("it takes the state of group %d from node %s, and has %d MiB", g.n, t.From, t.Bytes>>20)
		}
	}
	if why := r.outside.Load(); why != nil || len(all) == 0 {
		return notPart(why)
	}
	for _, g := range all {
		if id, _ := g.leader.now(); id == "" {
			return fmt.Sprintf("group %d of the region has no leader that this node can reach: a majority of the nodes that vote has to run", g.n)
		}
	}
	return "it catches up with what the region has acknowledged"
}
