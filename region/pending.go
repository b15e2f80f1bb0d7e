package region

import (
	"fmt"
	"maps"

	"github.com/roamsync/roam/region/machine"
)

// pending is what is wanted of the nodes and not so yet, as far as this node knows.
func (r *Region) pending(nodes []NodeStatus) []string {
	all := r.all()
	if len(all) == 0 {
		return []string{"this node is not part of the region yet"}
	}
	words := []string{}
	outs, _ := r.outs() // an error ends the node
	first := all[0].votes()
	votes := 0
	for _, n := range nodes {
		if first[n.ID] {
			votes++
		}
		for _, g := range all {
			if g.has(n.ID) && outs[n.ID] == machine.OutLeft {
				words = append(words, fmt.Sprintf("node %s is to leave", n.ID))
				break
			}
		}
		if n.Error == "" && n.Level < r.cfg.level && r.level() < r.cfg.level {
			words = append(words, fmt.Sprintf("feature level %d waits for node %s, which applies up to %d", r.cfg.level, n.ID, n.Level))
		}
	}
	if size := r.size(); votes != size {
		words = append(words, fmt.Sprintf("of %d nodes that are wanted to vote %d do", size, votes))
	}
	for _, g := range all[1:] {
		if !maps.Equal(g.votes(), first) {
			words = append(words, fmt.Sprintf("group %d has other nodes than the first", g.n))
		}
	}
	return words
}
