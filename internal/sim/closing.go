package sim

import (
	"fmt"
	"maps"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/replication/feeds"
)

// closeEvery is how often a leader looks which origins can be closed.
const closeEvery = time.Second

// Home implements feeds.Closings.
func (n *node) Home() string { return n.g.name }

// OriginsOf implements feeds.Closings.
func (n *node) OriginsOf(uint8) []crdt.Origin { return n.m.Origins() }

// Finals implements feeds.Closings.
func (n *node) Finals(p uint8) crdt.Finals { return n.m.Finals(p) }

// Evictions implements feeds.Closings.
func (n *node) Evictions(uint8) crdt.Evictions { return n.m.Evictions() }

// others are the other regions that were not given up.
func (n *node) others() (all []string) {
	for _, g := range n.w.groups {
		if g != n.g && !n.m.Evictions().Out(g.name) {
			all = append(all, g.name)
		}
	}
	return all
}

// Held is what the gateway is told of other regions.
func (d *door) Held(p uint8) (crdt.Vector, bool) {
	n, others := d.n, d.n.others()
	lead, all := n.g.lead(), !n.isolated
	for _, region := range others {
		if lead == nil {
			all = false
			break
		}
		s := lead.links[region]
		all = all && s != nil && s.known && n.w.now-s.heard < 2*silentAfter
	}
	return n.matrix.Most(others, p, n.m.Evictions()), all
}

// closeOrigins closes what nobody numbers under any more, while the node leads.
func (n *node) closeOrigins() {
	if !n.leading {
		return
	}
	if all := n.matrix.Closable(n, n.others(), feeds.All); len(all) > 0 {
		n.w.tell("%s closes %s and so on, %d in all, at %d", n, all[0].Origin, len(all), all[0].F)
		n.do(&machine.Command{Kind: machine.KindClose, Finals: all}, func(machine.Result) {})
	}
	n.after(closeEvery, n.whileLeading(n.closeOrigins))
}

const closed = "10 closed"

// openOrigins says what is still to be closed, or not known to be closed everywhere, "" if nothing is: of each region all incarnations but the
// one that it has now.
func (w *world) openOrigins(n *node) string {
	first := w.groups[0].lead()
	for p := range uint8(crdt.Partitions) {
		finals := n.m.Finals(p)
		if first != nil && !maps.Equal(finals, first.m.Finals(p)) {
			return fmt.Sprintf("%s has closed %v of partition %d, and %s %v", n, finals, p, first, first.m.Finals(p))
		}
		for id, last := range finals {
			// An end stays where it is if all who held the last of it are lost since: then it only says that there is no more.
			if have := n.Cursors(p)[id]; have > last || have < last && !w.lost {
				return fmt.Sprintf("%s has origin %08x of partition %d up to %d, and it was closed at %d", n, uint32(id), p, have, last)
			}
		}
		for _, o := range n.m.Origins() {
			home := w.group(o.Region()).lead()
			if _, over := finals[o.ID()]; !over && home != nil && o != home.m.Self() {
				return fmt.Sprintf("%s has not closed %s in partition %d", n, o, p)
			}
		}
	}
	return ""
}
