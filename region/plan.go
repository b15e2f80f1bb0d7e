package region

import (
	"fmt"
	"strings"

	"github.com/roamsync/roam/region/machine"
)

// seen is what a leader knows of one node of its group.
type seen struct {
	id    string
	votes bool
	alive bool
	lost  bool // dead for so long that another node may have its vote
	out   machine.Out
}

// outlook is all that a leader decides by how its group is to change. The nodes are in the order in which they joined.
type outlook struct {
	self  string
	nodes []seen
	ready func(id string) bool // is close enough to the end of the log to vote
}

type deed int

const (
	stay    deed = iota
	promote      // give a vote
	demote       // take the vote
	remove
	handOver // the lead, to id
)

// change is one step of a group towards what is wanted.
type change struct {
	do  deed
	id  string
	why string
}

// majority reports whether so many are one.
func majority(live, voters int) bool { return live*2 > voters }

// voters counts who votes, and who of them lives.
func (o *outlook) voters() (all, live int) {
	for _, n := range o.nodes {
		if n.votes {
			all++
			if n.alive {
				live++
			}
		}
	}
	return all, live
}

// spares reports whether a majority of those who still vote lives once a node does not.
func (o *outlook) spares(n seen) bool {
	all, live := o.voters()
	if !n.votes {
		return true
	}
	if n.alive {
		live--
	}
	return all > 1 && majority(live, all-1)
}

// plan is how the first group changes, so that size nodes vote: a vote is given before one is taken, and none is taken that a
// majority needs. Without reshaping, votes are only given.
func (o *outlook) plan(size int, reshape bool) change {
	staying, here := 0, 0
	for _, n := range o.nodes {
		if n.votes && n.out != machine.OutLeft {
			staying++
			if !n.lost || !reshape {
				here++
			}
		}
	}
	if here < size && staying <= size {
		for _, n := range o.nodes {
			if !n.votes && n.alive && n.out != machine.OutLeft && o.ready(n.id) {
				return change{promote, n.id, "a vote is free"}
			}
		}
	}
	if !reshape {
		return change{}
	}
	for _, n := range o.nodes {
		if n.out == machine.OutLeft && o.spares(n) {
			return o.without(n, remove, "it leaves for good")
		}
	}
	if staying <= size {
		return change{}
	}
	for _, n := range o.dispensable() {
		if !o.spares(n) {
			continue
		}
		if !n.alive {
			return o.without(n, remove, "it is dead, and enough others vote")
		}
		return o.without(n, demote, "enough others vote")
	}
	return change{}
}

// dispensable are those who vote, whose vote is to go first in front: the lost, the dead, the youngest.
func (o *outlook) dispensable() (order []seen) {
	for _, is := range []func(seen) bool{
		func(n seen) bool { return n.lost }, func(n seen) bool { return !n.lost && !n.alive }, func(n seen) bool { return n.alive },
	} {
		for i := len(o.nodes) - 1; i >= 0; i-- {
			if n := o.nodes[i]; n.votes && is(n) {
				order = append(order, n)
			}
		}
	}
	return order
}

// without takes a node's vote, or hands the lead over first, to the oldest that can have it.
func (o *outlook) without(n seen, do deed, why string) change {
	if n.id != o.self {
		return change{do, n.id, why}
	}
	for _, other := range o.nodes {
		if other.votes && other.alive && other.id != n.id && other.out != machine.OutLeft {
			return change{handOver, other.id, why}
		}
	}
	return change{}
}

// mirror is how another group changes, so that it becomes like the first one, of which it is given who votes.
func (o *outlook) mirror(first map[string]bool) change {
	if len(first) == 0 {
		return change{}
	}
	for _, n := range o.nodes {
		if first[n.id] && !n.votes && n.alive && o.ready(n.id) {
			return change{promote, n.id, "it votes in the first group"}
		}
	}
	for _, n := range o.nodes {
		votes, in := first[n.id]
		switch {
		case !in && n.out != machine.OutNot && o.spares(n):
			return o.without(n, remove, "it is not in the first group")
		case in && n.votes && !votes && o.spares(n):
			return o.without(n, demote, "it has no vote in the first group")
		}
	}
	return change{}
}

// leaving decides who leaves when a node is told to, and tells what that costs. The dead go with it, if that is forced: without
// them, the rest is a majority.
func leaving(nodes []seen, id string, force bool) (out []string, told string, err error) {
	var who *seen
	var dead []string
	others, live := 0, 0
	for i, n := range nodes {
		switch {
		case n.id == id:
			who = &nodes[i]
		case n.votes && n.alive:
			others, live = others+1, live+1
		case n.votes:
			others++
			dead = append(dead, n.id)
		}
	}
	name := nodeOfID(id)
	switch {
	case who == nil:
		return nil, "", fmt.Errorf("the region has no node %s", id)
	case !who.votes:
		return []string{id}, fmt.Sprintf("Node %s leaves. It had no vote: nothing else changes.", name), nil
	case live == 0:
		return nil, "", fmt.Errorf("nobody is left who votes if node %s leaves: have another node vote first, or stop the region", name)
	case majority(live, others):
		return []string{id}, fmt.Sprintf("Node %s leaves: %s", name, endures(others)), nil
	case !force:
		return nil, "", fmt.Errorf("without node %s only %d of %d that vote are alive, which is no majority: start %s first, or use --force, "+
			"with which they leave for good as well", name, live, others, strings.Join(dead, ", "))
	}
	return append(dead, id), fmt.Sprintf("Node %s leaves, and with it, since they are dead, %s: they can only come back empty, under a new id. %s",
		name, strings.Join(dead, ", "), endures(live)), nil
}

// endures says what a region of so many votes survives.
func endures(voters int) string {
	return fmt.Sprintf("%d stay that vote, and the region survives the loss of %d of them.", voters, (voters-1)/2)
}

func nodeOfID(id string) string {
	name, _, _ := strings.Cut(id, ".")
	return name
}
