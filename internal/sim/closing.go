package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// closeEvery is how often a leader looks which origins can be closed.
const closeEvery = time.Second

// Home implements feeds.Closings.
func (n *node) Home() string { return n.g.name }

// OriginsOf implements feeds.Closings.
func (n *node) OriginsOf(p uint8) []crdt.Origin { return n.of(p).m.Origins() }

// Finals implements feeds.Closings.
func (n *node) Finals(p uint8) crdt.Finals { return n.of(p).m.Finals(p) }

// others are the other regions that were not given up.
func (n *node) others() (all []string) {
	for _, r := range n.w.regions {
		if r != n.g.region && !n.first().m.Evictions().Out(r.name) {
			all = append(all, r.name)
		}
	}
	return all
}

// Held is what the gateway is told of other regions.
func (d *door) Held(p uint8) (crdt.Vector, bool) {
	n, others := d.n, d.n.others()
	lead, all := n.g.lead(), !n.isolated && !n.doubts(p)
	all = all && lead != nil && n.matrix.Fresh(others, n.Self(p), p, n.w.time(), lead.lastHeard)
	for _, region := range others {
		if lead == nil {
			all = false
			break
		}
		s := lead.links[n.w.region(region).of(p)]
		all = all && s != nil && s.known && n.w.now-s.heard < 2*silentAfter
	}
	return n.matrix.Most(others, p, n.Evictions(p)), all
}

// lastHeard is when a region's heads of a partition came last over a stream that the node has.
func (n *node) lastHeard(region string, p uint8) time.Time {
	if s := n.links[n.w.region(region).of(p)]; s != nil {
		return s.said
	}
	return time.Time{}
}

// doubts reports whether it is in doubt who was given up, in a partition.
func (n *node) doubts(p uint8) bool {
	return n.matrix.Doubts(n.g.name, n.Self(p), p, n.Evictions(p), n.w.time())
}

// recountEvery is how often a node looks whether that has changed.
const recountEvery = 2 * time.Second

// recount has clients told again what is safe, if other regions count than did.
func (n *node) recount() {
	others, doubted := len(n.others()), uint64(0)
	for p := range uint8(crdt.Partitions) {
		if n.g.has(p) && n.doubts(p) {
			doubted |= 1 << p
		}
	}
	if n.counted != others || n.doubted != doubted {
		n.counted, n.doubted = others, doubted
		n.door.recheck()
	}
	n.after(recountEvery, n.recount)
}

// closeOrigins closes what nobody numbers under any more, while the node leads.
func (n *node) closeOrigins() {
	if !n.leading {
		return
	}
	if all := n.matrix.Closable(n, n.others(), n.g.mask, n.w.time(), n.lastHeard); len(all) > 0 {
		n.w.checkClosing(n, all)
		n.w.tell("%s closes %s and so on, %d in all, at %d", n, all[0].Origin, len(all), all[0].F)
		n.do(&machine.Command{Kind: machine.KindClose, Finals: all}, func(machine.Result) {})
	}
	n.after(closeEvery, n.whileLeading(n.closeOrigins))
}

const closed = "10 closed"

// checkClosing: an origin is closed when all regions that count hold the same of it, as they have said. One may have come to hold more since, and then raises the
// end; but none holds less, unless its disks were lost or went back.
func (w *world) checkClosing(n *node, all []wire.Final) {
	for _, region := range n.others() {
		for _, f := range all {
			g := w.region(region).of(f.Partition)
			lead := g.lead()
			if g.forgot || g.out || lead == nil || int(lead.m.Applied()) < len(g.log) {
				continue // what was applied before a crash is applied again
			}
			if have := lead.Cursors(f.Partition)[f.Origin.ID()]; have < f.F {
				w.violate(closed, "%s closes %s of partition %d at %d, and %s holds %d only", n, f.Origin, f.Partition, f.F, region, have)
				return
			}
		}
	}
}

// checkEnds: a region that holds more of an origin than those who closed it says so.
func (w *world) checkEnds(n *node, partitions uint64) {
	if partitions == 0 || n.m.Self() == "" {
		return
	}
	for p := range uint8(crdt.Partitions) {
		for id, last := range n.m.Finals(p) {
			if have := n.Cursors(p)[id]; partitions&(1<<p) != 0 && have > last {
				w.violate(closed, "%s closes origin %08x of partition %d at %d, and holds %d", n, uint32(id), p, last, have)
				return
			}
		}
	}
}

// neverNumbered reports whether no region has anything of an origin in a partition, nor an end. Where regions have different numbers of groups, one may have
// heard of it by partitions that elsewhere are another group's, and the groups that number here know nothing of it. There is nothing to be closed then: who has
// seen what is lost of it is behind until all regions were heard, and then told.
func (w *world) neverNumbered(o crdt.Origin, p uint8) bool {
	return !slices.ContainsFunc(w.regions, func(r *region) bool {
		lead := r.of(p).lead()
		if lead == nil {
			return true
		}
		_, closed := lead.Finals(p)[o.ID()]
		return closed || lead.Cursors(p)[o.ID()] > 0
	})
}

// openOrigins says what is still to be closed, or not known to be closed everywhere, "" if nothing is: of each region all incarnations but the
// one that it has now.
func (w *world) openOrigins(n *node) string {
	for p := range uint8(crdt.Partitions) {
		finals, first := n.Finals(p), w.regions[0].of(p).lead()
		if !n.g.has(p) {
			continue
		}
		if first != nil && !maps.Equal(finals, first.Finals(p)) {
			return fmt.Sprintf("%s has closed %v of partition %d, and %s %v", n, finals, p, first, first.Finals(p))
		}
		for id, last := range finals {
			// An end stays where it is if all who held the last of it are lost since: then it only says that there is no more.
			if have := n.Cursors(p)[id]; have > last || have < last && !w.lost {
				return fmt.Sprintf("%s has origin %08x of partition %d up to %d, and it was closed at %d", n, uint32(id), p, have, last)
			}
		}
		for _, o := range n.m.Origins() {
			home := w.region(o.Region()).of(p).lead()
			if by := w.issuers[o]; by != nil && !by.has(p) || w.plan.Groups != nil && w.neverNumbered(o, p) {
				continue // it was never numbered there
			}
			if _, over := finals[o.ID()]; !over && home != nil && o != home.m.Self() {
				return fmt.Sprintf("%s has not closed %s in partition %d", n, o, p)
			}
		}
	}
	return ""
}
