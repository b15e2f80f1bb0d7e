package sim

import (
	"fmt"
	"maps"
	"slices"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/replication/feeds"
)

// region is the groups that share a region's partitions. The nodes of one place in all of them are one process, with one disk: they start and end
// together, and know the same of other regions.
type region struct {
	w        *world
	name     string
	groups   []*group
	emptying bool // it cannot go on with its disks
}

func (w *world) newRegion(i int) {
	r, of := &region{w: w, name: regionNames[i]}, w.plan.groups(i)
	for part := range of {
		r.groups = append(r.groups, w.newGroup(r, part, of, w.plan.Nodes[i]))
	}
	w.regions, w.groups = append(w.regions, r), append(w.groups, r.groups...)
}

func (w *world) region(name string) *region {
	i := slices.IndexFunc(w.regions, func(r *region) bool { return r.name == name })
	return w.regions[max(i, 0)]
}

// holding are the groups of all regions that hold a session.
func (w *world) holding(session string) (all []*group) {
	for _, r := range w.regions {
		all = append(all, r.of(crdt.PartitionOf(session)))
	}
	return all
}

// partsOf are the partitions of one of so many groups, a bit each.
func partsOf(part, of int) uint64 {
	width := crdt.Partitions / of
	return feeds.All >> (crdt.Partitions - width) << (part * width)
}

// of is the group that has a partition.
func (r *region) of(p uint8) *group { return r.groups[int(p)*len(r.groups)/crdt.Partitions] }

// out reports whether somebody has given the region up, and not all of it has come back.
func (r *region) out() bool {
	return slices.ContainsFunc(r.groups, func(g *group) bool { return g.out })
}

// leftOut notes that the region was given up, up to an incarnation.
func (r *region) leftOut(bound uint64) {
	for _, g := range r.groups {
		g.out, g.bound = true, max(g.bound, bound)
		r.w.lost = r.w.lost || g.holdsAlone()
	}
}

// leftIn notes that it was not, after all.
func (r *region) leftIn() {
	for _, g := range r.groups {
		g.out = false
	}
}

// hearsOf reports whether some leader of the region hears another one.
func (r *region) hearsOf(of *region) bool {
	for _, g := range r.groups {
		for _, o := range of.groups {
			if n := g.lead(); n != nil && n.links[o] != nil && n.links[o].known {
				return true
			}
		}
	}
	return false
}

// nodes are those of all groups.
func (r *region) nodes() (all []*node) {
	for _, g := range r.groups {
		all = append(all, g.nodes...)
	}
	return all
}

// goBack has the disk of a region of one node go back: the first group has so many entries then, and the others what they had at that time.
func (n *node) goBack(keep int) {
	at, all := n.w.now, n.process()
	if keep < len(n.g.log) {
		at = n.g.times[keep]
	}
	for _, o := range all {
		at = max(at, o.flushed)
	}
	for _, o := range all {
		if len(all) > 1 {
			keep, _ = slices.BinarySearch(o.g.times, at)
			keep = max(keep, o.g.first, int(appliedIn(o.durable)))
		}
		n.w.forget(o.g, keep)
	}
}

// burn takes the disks of all nodes, which are down.
func (r *region) burn() {
	for _, g := range r.groups {
		r.w.forget(g, 0)
		for _, n := range g.nodes {
			n.loseDisk()
		}
	}
}

// empty has an operator start all nodes of the region without what they had on their disks.
func (r *region) empty() {
	for _, n := range r.nodes() {
		n.kill()
	}
	r.burn()
	for _, n := range r.nodes() {
		n.start()
	}
}

// label tells a group from all others.
func (g *group) label() string {
	if g.part == 0 {
		return g.name
	}
	return fmt.Sprint(g.name, ".", g.part)
}

func (g *group) has(p uint8) bool { return g.mask&(1<<p) != 0 }

// follows reports whether leaders of this group follow another one: it is another region's, and has partitions of this one.
func (g *group) follows(o *group) bool { return g.region != o.region && g.mask&o.mask != 0 }

// process is the node in all groups: this one among them.
func (n *node) process() (all []*node) {
	for _, g := range n.g.region.groups {
		all = append(all, g.nodes[n.at])
	}
	return all
}

// first is the node in the first group, which remembers who was given up.
func (n *node) first() *node { return n.g.region.groups[0].nodes[n.at] }

// of is the node in the group of a partition.
func (n *node) of(p uint8) *node { return n.g.region.of(p).nodes[n.at] }

// Origins are all that are known here, in all groups.
func (n *node) Origins() (all []crdt.Origin) {
	for _, o := range n.process() {
		all = append(all, o.m.Origins()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Evictions implements feeds.Closings: of other regions the first group knows, and each group of its own.
func (n *node) Evictions(p uint8) crdt.Evictions {
	home, all := n.g.name, maps.Clone(n.first().m.Evictions())
	delete(all, home)
	if own, ok := n.of(p).m.Evictions()[home]; ok {
		all[home] = own
	}
	return all
}

// noteEvicted commits what others say of a region that was given up, in the groups that remember it and that this process leads.
func (n *node) noteEvicted(e *feeds.Evict) {
	for _, o := range n.process() {
		if o == n.first() || e.Region == n.g.name {
			o.do(&machine.Command{Kind: machine.KindEvict, Peer: e.Region, Eviction: e.Eviction}, func(machine.Result) {})
		}
	}
}

// renewOnce goes on under a new incarnation in the group that numbers under the one that is lost, or in one that was evicted, and can come back.
func (n *node) renewOnce(r *feeds.Renew) {
	for _, o := range n.process() {
		switch {
		case !o.leading || o.m.Self() != r.Lost:
		case r.Lost != "":
			o.renew(r)
			return
		case o.m.Fenced() && o.m.Settled() && o.m.Beyond() == 0:
			above := r.Above
			for _, o := range n.process() {
				above = max(above, o.m.Evictions()[n.g.name].Bound)
			}
			o.renew(&feeds.Renew{Above: above, Why: r.Why})
			return
		}
	}
}

// hears reports whether a region's heads come, of all of some partitions.
func (n *node) hears(r *region, partitions uint64) bool {
	if r == n.g.region {
		return false
	}
	for _, g := range r.groups {
		if s := n.links[g]; g.mask&partitions != 0 && (s == nil || !s.known) {
			return false
		}
	}
	return true
}

// parts are the partitions that a stream carries, a bit each.
func (s *stream) parts() uint64 { return s.follower.g.mask & s.server.g.mask }
