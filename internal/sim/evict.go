package sim

import (
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// The ways in which a region that is given up is away.
const (
	awayBurned = iota // its disks are lost
	awayDown          // its nodes are down, and come back with their disks
	awayAlone         // it lives, and nobody hears of it
	awayWays
)

// hitRegion takes a region away, has an operator give it up, and brings it back.
func (w *world) hitRegion(f *Fault, g *group) (undo func()) {
	if g.region.out() {
		return nil
	}
	way, comeBack := f.N%awayWays, func() {}
	switch way {
	case awayAlone:
		comeBack = w.hitWays(&Fault{Kind: faultAlone, Region: f.Region}, g)
	default:
		kind := faultCrashAll
		if way == awayBurned {
			kind = faultBurn
		}
		comeBack = w.hitProcess(&Fault{Kind: kind, Region: f.Region}, g, g.nodes[0])
	}
	away := true
	var operator func()
	operator = func() {
		if away && !w.giveUp(g, f.N/awayWays) {
			w.after(time.Second, operator)
		}
	}
	w.after(between(dice(w.seed, "operator "+f.String()), time.Second, 6*time.Second), operator)
	return func() { away = false; comeBack() }
}

// giveUp has the operator evict a region from another one that has not been evicted itself, and reports whether it was done.
func (w *world) giveUp(g *group, from int) bool {
	if slices.ContainsFunc(w.groups, func(o *group) bool { return o.away }) {
		return false // nor would the product, unless it is forced to
	}
	for i := range w.regions {
		o := w.regions[(from+i)%len(w.regions)]
		n := o.groups[0].lead()
		if o == g.region || o.out() || n == nil || n.m.Self() == "" || o.hearsOf(g.region) {
			continue
		}
		bound := n.matrix.Bound(g.name, n.Origins())
		w.tell("OPERATOR evicts %s from %s, up to %x", g.name, n, bound)
		w.counts.Evictions++
		g.region.leftOut(bound)
		n.do(&machine.Command{Kind: machine.KindEvict, Peer: g.name, Eviction: crdt.Eviction{Bound: bound}}, func(r machine.Result) {
			if r.Err != nil && g.region.out() {
				g.region.leftIn()
				w.after(time.Second, func() { w.giveUp(g, from) })
			}
		})
		return true
	}
	return false
}

// holdsAlone reports whether a region holds what no other one does.
func (g *group) holdsAlone() bool {
	m := g.furthest()
	if m == nil {
		return false
	}
	for p := range uint8(crdt.Partitions) {
		for id, f := range m.Cursors(p) {
			if !g.w.elsewhere(g, id, p, f) {
				return true
			}
		}
	}
	return false
}

// checkEvicted has an operator empty the disks of a region that was given up and holds what the others have closed without it.
func (g *group) checkEvicted(n *node) {
	if r := g.region; r.emptying || !n.m.Fenced() || n.m.Beyond() == 0 {
		return
	}
	g.region.emptying = true
	g.w.after(time.Second, func() {
		if g.region.emptying = false; n.m == nil || !n.m.Fenced() || n.m.Beyond() == 0 {
			return // the others have taken in more
		}
		g.w.tell("%s was evicted, and holds %d ops that nobody else has: its disks are emptied", g.name, n.m.Beyond())
		g.region.empty()
	})
}

// noteIncarnation notes under what a region numbers: what it did before has ended.
func (g *group) noteIncarnation(n *node) {
	if e := n.m.Evictions()[g.name]; e.Back > max(e.Bound, g.bound) {
		g.out = false
	}
	self := n.m.Self()
	if self == g.numbers || int(n.m.Applied())+1 < g.checked {
		return
	}
	if g.numbers != "" {
		g.w.fenced[g.numbers] = true
	}
	g.numbers = self
}

// called notes that a region has called an op safe. It may have said so when it had no other one to count on, and one have come back while that was on its way.
func (w *world) called(s *socket, a *ack, oid string) {
	n, g := s.n, s.n.g
	justBefore := g.alone > 0 && g.w.now-g.alone < time.Second
	a.safe, a.alone = true, a.alone || justBefore || n.m != nil && len(n.others()) == 0
	if !s.orphaned() && len(n.others()) == 0 && w.now-n.began < foundOut && w.forgottenBy(g.region) && !w.elsewhereHeld(g.region, oid) {
		w.violate("1 safe is in two regions", "%s of %s was called safe by %s, which has just started, and has it alone: another region is back", oid, a.session, n)
	}
}

// foundOut is how long at least a process that has just started leaves it open whether those that were evicted are back.
const foundOut = 9 * time.Second

// forgottenBy reports whether another region than one counts.
func (w *world) forgottenBy(r *region) bool {
	return slices.ContainsFunc(w.regions, func(o *region) bool { return o != r && !o.out() })
}

// elsewhereHeld reports whether another region than one has an op.
func (w *world) elsewhereHeld(r *region, oid string) bool {
	return slices.ContainsFunc(w.groups, func(g *group) bool { return g.region != r && g.oids[oid] > 0 })
}

// noteAlone notes until when a region has no other one to count on.
func (g *group) noteAlone(n *node) {
	alone := len(n.others()) == 0
	if alone || g.wasAlone {
		g.alone = g.w.now
	}
	g.wasAlone = alone
}
