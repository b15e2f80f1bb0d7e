package feeds

import (
	"slices"
	"strings"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Closings is what the region has committed of origins that are closed, and of regions that were given up.
type Closings interface {
	// Home is the region's name.
	Home() string
	// OriginsOf are the origins that the group of a partition knows.
	OriginsOf(partition uint8) []crdt.Origin
	Finals(partition uint8) crdt.Finals
	Evictions(partition uint8) crdt.Evictions
}

// maxFinals bounds what is closed by one entry; the rest follows.
const maxFinals = 512

// Evict is what another region says of one that was given up, joined with what is known here.
type Evict struct {
	Region string
	crdt.Eviction
}

// finalsOf says which partitions of an origin are closed, as heads do; nil: none.
func finalsOf(local Closings, id crdt.OriginID, partitions uint64) (all []uint64) {
	for p := range uint8(crdt.Partitions) {
		last, closed := local.Finals(p)[id]
		if !closed || partitions&(1<<p) == 0 {
			continue
		}
		if all == nil {
			all = make([]uint64, crdt.Partitions)
		}
		all[p] = last + 1
	}
	return all
}

// evictedOf says who was given up, as heads do.
func evictedOf(all crdt.Evictions) (rows []*peerpb.Evicted) {
	for region, e := range all {
		rows = append(rows, &peerpb.Evicted{Region: region, Bound: e.Bound, Back: e.Back})
	}
	slices.SortFunc(rows, func(a, b *peerpb.Evicted) int { return strings.Compare(a.Region, b.Region) })
	return rows
}

func evictionOf(e *peerpb.Evicted) crdt.Eviction { return crdt.Eviction{Bound: e.Bound, Back: e.Back} }

// settle takes what the other region says is over, and reports whether its feeds are to be left alone: it was given up itself, or says
// that we were.
func (f *Follower) settle() (apart bool) {
	p := firstOf(f.parts)
	known, home, self := f.local.Evictions(p), f.local.Home(), f.local.Self(p)
	// Nothing that it says counts, but how much of it is given up, and that it is back: it may have gone on under an incarnation that nobody heard of.
	void := known.Void(f.region, f.theirs) || known.Out(f.region)
	for _, row := range f.evicted {
		if void && row.Region != f.region {
			continue
		}
		old, there := known[row.Region]
		e := evictionOf(row).Join(old)
		givenUp := row.Region == home && self != "" && self.Incarnation() <= row.Bound
		if (row.Region == home || f.has(0)) && (!there || e != old) || givenUp {
			f.out = append(f.out, Action{Evict: &Evict{row.Region, e}})
		}
		apart = apart || givenUp
	}
	switch {
	case apart || void:
		return true
	case self == "" && known.Out(home):
		f.unfence(known[home].Bound)
		return true
	}
	f.close(self)
	return false
}

// close has what the other region has closed closed here too, and reports whether there was something.
func (f *Follower) close(self crdt.Origin) bool {
	var all []wire.Final
	for _, head := range f.heads {
		o := crdt.Origin(head.Origin)
		if o == self {
			continue // whoever gives us up says so first
		}
		id := o.ID()
		for p, n := range head.Final {
			last, closed := f.local.Finals(uint8(p))[id]
			if n > 0 && f.has(uint8(p)) && len(all) < maxFinals && (!closed || last < n-1) {
				all = append(all, wire.Final{Origin: o, Partition: uint8(p), F: n - 1})
			}
		}
	}
	if len(all) > 0 {
		f.out = append(f.out, Action{Close: all})
	}
	return len(all) > 0
}

// unfence begins anew, for a region that was given up, once the other one has closed all that was numbered here, and has said so. What
// is held beyond that is for the owner to see: then a new incarnation is not begun.
func (f *Follower) unfence(bound uint64) {
	if f.close("") {
		return
	}
	for _, o := range f.local.OriginsOf(firstOf(f.parts)) {
		if o.Region() != f.local.Home() || o.Incarnation() > bound {
			continue
		}
		id := o.ID()
		for p := range uint8(crdt.Partitions) {
			if _, closed := f.local.Finals(p)[id]; f.has(p) && !closed && f.local.Cursors(p)[id] > 0 {
				return // that is still being found out
			}
		}
	}
	f.out = append(f.out, Action{Renew: &Renew{Above: bound, Why: "this region was evicted, and the others have all that it had"}})
}

// Told takes whom a region knows to have been given up, and its feature level.
func (m *Matrix) Told(region string, h *peerpb.Heads) {
	if h == nil {
		return
	}
	to := m.holder(region)
	to.level = h.Level
	if len(h.Evicted) == 0 {
		return
	}
	to.evicted = crdt.Evictions{}
	for _, row := range h.Evicted {
		to.evicted[row.Region] = evictionOf(row)
	}
}

// Named takes which incarnations of its own a region says there were, in case it is given up, and which of ours, whose name is home: they
// may be forgotten by all others, and are to be closed.
func (m *Matrix) Named(region, home string, h *peerpb.Heads) {
	for _, head := range h.GetHeads() {
		o := crdt.Origin(head.Origin)
		if o.Region() != region && o.Region() != home {
			continue
		}
		if to := m.holder(region); !slices.Contains(to.named, o) && len(to.named) < maxNamed {
			to.named = append(to.named, o)
		}
	}
}

// maxNamed bounds the incarnations that are remembered as a region has named them.
const maxNamed = 1024

// Bound is the last incarnation of a region that is known, by its ops or by what was heard: what is given up with it.
func (m *Matrix) Bound(region string, known []crdt.Origin) (last uint64) {
	for _, o := range known {
		if o.Region() == region {
			last = max(last, o.Incarnation())
		}
	}
	if h := m.regions[region]; h != nil {
		for _, epoch := range h.epochs {
			last = max(last, epoch)
		}
	}
	return last
}

// tells reports whether a region knows that another was given up.
func (m *Matrix) tells(region, of string, e crdt.Eviction) bool {
	h := m.regions[region]
	if h == nil {
		return false
	}
	said, ok := h.evicted[of]
	return ok && said.Bound >= e.Bound
}

// counts reports whether what a region was heard to hold of a partition counts: it was not given up since.
func (m *Matrix) counts(region string, p uint8, ev crdt.Evictions) bool {
	h := m.regions[region]
	return !ev.Out(region) && (h == nil || h.epochs[p] == 0 || !ev.Void(region, h.epochs[p]))
}

// back reports whether a region that was evicted has been heard under a later incarnation, in a partition.
func (m *Matrix) back(region string, p uint8, ev crdt.Evictions) bool {
	h := m.regions[region]
	return h != nil && h.epochs[p] != 0 && !ev.Void(region, h.epochs[p])
}

// Numbers reports whether an origin's region was last heard to number under it, in a partition.
func (m *Matrix) Numbers(o crdt.Origin, p uint8) bool {
	h := m.regions[o.Region()]
	return h != nil && h.epochs[p] != 0 && h.epochs[p] == o.Incarnation()
}

// Closable is what can be closed of some partitions, a bit each: the own region's former incarnations, and those of regions that were given
// up, as far as all other regions that count hold the same of them. A region numbers under one incarnation at a time, and nobody takes
// records from one that was given up, as each of the others has said: so where all hold the same, nobody living has more, and nobody gets more. While it is
// in doubt who counts, nothing can. Of its own former incarnations the region counts only what was said after they had ended.
func (m *Matrix) Closable(local Local, others []string, parts uint64, now time.Time, heard LastHeard) (all []wire.Final) {
	for rest := parts; rest != 0; rest &= rest - 1 {
		p := firstOf(rest)
		ev, self := local.Evictions(p), local.Self(p)
		numbers, doubts := self != "", m.Doubts(local.Home(), self, p, ev, now)
		if doubts && numbers || !numbers && !ev.Out(local.Home()) {
			continue
		}
		fresh := m.Fresh(others, self, p, now, heard)
		for _, o := range m.over(local, others, p, ev) {
			id := o.ID()
			if !fresh && o.Region() == local.Home() {
				continue
			}
			if _, closed := local.Finals(p)[id]; closed || !numbers && !m.unheard(local, others, o) {
				continue
			}
			last := local.Cursors(p)[id]
			if !numbers {
				last = m.Acked(others, id, p, ev)
			}
			if m.agreed(others, o, p, last, ev) {
				all = append(all, wire.Final{Origin: o, Partition: p, F: last})
			}
			if len(all) == maxFinals {
				return all
			}
		}
	}
	return all
}

// unheard reports whether an incarnation is of the own region, and of a group that has begun it before it heard that the region was evicted: the others have
// all said that they have given up what came before. So nobody but the group itself can close it. It has no say in where: that is up to what the others hold.
func (m *Matrix) unheard(local Local, others []string, o crdt.Origin) bool {
	home := local.Home()
	return o.Region() == home && len(others) > 0 && !slices.ContainsFunc(others, func(region string) bool {
		h := m.regions[region]
		if h == nil {
			return true
		}
		said, ok := h.evicted[home]
		return !ok || o.Incarnation() <= said.Bound
	})
}

// over are the origins under which nobody numbers any more, as far as that is known here and everybody has heard of it.
func (m *Matrix) over(local Local, others []string, p uint8, ev crdt.Evictions) (all []crdt.Origin) {
	known := append(slices.Clone(local.OriginsOf(p)), lastOf(ev)...)
	for _, h := range m.regions {
		known = append(known, h.named...)
	}
	slices.Sort(known)
	living := map[crdt.Origin]bool{}
	for q := range uint8(crdt.Partitions) {
		living[local.Self(q)] = true
	}
	for _, o := range slices.Compact(known) {
		region, inc := o.Region(), o.Incarnation()
		former := region == local.Home() && !living[o]
		if former || ev.Void(region, inc) && region != local.Home() && m.allTell(others, region, ev[region]) {
			all = append(all, o)
		}
	}
	return all
}

func (m *Matrix) allTell(others []string, of string, e crdt.Eviction) bool {
	for _, region := range others {
		if region != of && !m.tells(region, of, e) {
			return false
		}
	}
	return true
}

// Most is how far any of some regions is known to hold each origin's feed of a partition.
func (m *Matrix) Most(regions []string, p uint8, ev crdt.Evictions) crdt.Vector {
	most := crdt.Vector{}
	for _, region := range regions {
		h := m.regions[region]
		if h == nil || !m.counts(region, p, ev) {
			continue
		}
		for id, r := range h.rows {
			if r[p] > most[id] {
				most[id] = r[p]
			}
		}
	}
	return most
}

// agreed reports whether all of some regions are known to hold an origin's feed up to one f, and no further. A region of several groups may
// be back with some, and wait with the others until what it numbered is closed: of that it is not asked.
func (m *Matrix) agreed(others []string, o crdt.Origin, p uint8, f uint64, ev crdt.Evictions) bool {
	id, of, inc := o.ID(), o.Region(), o.Incarnation()
	for _, region := range others {
		h := m.regions[region]
		if region == of && ev.Void(region, inc) && !m.back(region, p, ev) {
			continue
		}
		if h == nil || h.epochs[p] == 0 || !m.counts(region, p, ev) {
			return false
		}
		have := uint64(0)
		if r := h.rows[id]; r != nil {
			have = r[p]
		}
		if have != f {
			return false
		}
	}
	return true
}

// Open is what is not closed yet of a region that was given up.
type Open struct {
	Partitions int               // in which some incarnation of it is open
	Waits      map[string]string // by region, or seed that has not answered: why it is waited for
}

// Opens says what is not closed yet of a region that was given up, and, of the partitions that this node leads, a bit each, why.
func (m *Matrix) Opens(local Local, others []string, led uint64, region string) (o Open) {
	o.Waits = map[string]string{}
	for p := range uint8(crdt.Partitions) {
		ev, open := local.Evictions(p), false
		for _, origin := range local.OriginsOf(p) {
			id := origin.ID()
			_, closed := local.Finals(p)[id]
			if closed || origin.Region() != region || !ev.Void(region, origin.Incarnation()) {
				continue
			}
			open = true
			if led&(1<<p) != 0 {
				m.waits(o.Waits, others, origin, p, local.Cursors(p)[id], ev)
			}
		}
		if open {
			o.Partitions++
		}
	}
	return o
}

// waits says for which of some regions an origin is not closed.
func (m *Matrix) waits(why map[string]string, others []string, o crdt.Origin, p uint8, f uint64, ev crdt.Evictions) {
	of := o.Region()
	for _, region := range others {
		h := m.regions[region]
		switch {
		case region == of || why[region] != "":
		case h == nil || h.epochs[p] == 0 || !m.counts(region, p, ev):
			why[region] = "it was not heard"
		case !m.tells(region, of, ev[of]):
			why[region] = "it has not noted the eviction"
		case !m.agreed([]string{region}, o, p, f, ev):
			why[region] = "it does not hold the same yet"
		}
	}
}

// lastOf are the last incarnations of regions that were given up, whether anything was heard that they have numbered or not.
func lastOf(ev crdt.Evictions) (all []crdt.Origin) {
	for region, e := range ev {
		if e.Bound > 0 {
			all = append(all, crdt.NewOrigin(region, e.Bound))
		}
	}
	return all
}
