package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// levelMin and levelMax are between two times that a node levels what it knows with a node of another region.
const levelMin, levelMax = 2 * time.Second, 20 * time.Second

func (n *node) beginGossip() {
	n.eager, n.talk = feeds.Eager{}, dice(n.w.seed, fmt.Sprint("gossip ", n, n.life))
	n.gossip = feeds.NewGossip(n.String(), n.talk.Uint32(), n, n.w.time())
}

// view is what a node knows when it gossips: the nodes of all regions, always.
func (n *node) view(busy bool) feeds.View {
	v := feeds.View{Origins: n.m.Origins(), Busy: busy}
	if n.leading {
		v.Led = n.g.mask
	}
	for _, r := range n.w.regions {
		if n.hears(r, n.g.mask) {
			v.Hears = append(v.Hears, r.name)
		}
	}
	for _, g := range n.w.groups {
		for _, o := range g.nodes {
			if n.g.follows(g) {
				v.Nodes = append(v.Nodes, o.String())
			}
		}
	}
	return v
}

// spread gossips while a node leads, for the term that begins.
func (n *node) spread(term int) {
	var touched uint64
	again := func(fn func()) func() {
		return func() {
			if n.leading && n.terms == term {
				fn()
			}
		}
	}
	stop := n.Watch(func(ev []wire.Event) {
		if touched |= wire.Touched(ev); n.leading && n.terms == term {
			n.after(0, again(func() { n.ahead(&touched) }))
		}
	})
	var tick func()
	tick = func() {
		if !n.leading || n.terms != term {
			stop()
			return
		}
		busy := touched != 0
		n.ahead(&touched)
		for _, d := range n.gossip.Tick(n.matrix, n.view(busy), n.w.time()) {
			n.throw(d)
		}
		n.after(feeds.GossipEvery, tick)
	}
	tick()
	n.after(between(n.talk, levelMin, levelMax), again(func() { n.level(term) }))
}

// ahead sends what was just committed as datagrams, where they get lost.
func (n *node) ahead(touched *uint64) {
	to := n.gossip.Lossy(n.g.mask, n.w.time())
	records, _ := n.eager.Committed(n, *touched, len(to) > 0)
	*touched = 0
	for _, name := range to {
		for _, r := range records {
			n.throw(n.gossip.Fresh(name, r, n.view(true), n.w.time()))
		}
	}
}

func (w *world) node(name string) *node {
	for _, g := range w.groups {
		for _, n := range g.nodes {
			if n.String() == name {
				return n
			}
		}
	}
	return nil
}

// throw sends a datagram: it may be lost, come twice, and late.
func (n *node) throw(d feeds.Datagram) {
	to := n.w.node(d.To)
	l := n.w.way(n.g, to.g)
	times, late := 1, time.Duration(0)
	if p := l.air.Float64(); l.cut > 0 || p < l.loss+l.lossy {
		times = l.air.IntN(3)
		late = between(l.air, 0, 2*time.Second)
	}
	if l.cut > 0 {
		return
	}
	for range times {
		to.after(l.delay+between(l.air, 0, l.jitter)+late, func() { to.hear(d.Body) })
	}
}

// tellAll tells another node all that this one knows.
func (n *node) tellAll(to *node) {
	whole := n.gossip.Whole(n.matrix, n.view(false))
	to.after(n.w.way(n.g, to.g).delay, func() { to.hear(whole) })
}

// level tells a node of another region all that this one knows.
func (n *node) level(term int) {
	g := n.w.groups[n.talk.IntN(len(n.w.groups))]
	if to := g.nodes[n.talk.IntN(len(g.nodes))]; g.region != n.g.region && n.w.way(n.g, g).cut == 0 {
		n.tellAll(to)
	}
	n.after(between(n.talk, levelMin, levelMax), func() {
		if n.leading && n.terms == term {
			n.level(term)
		}
	})
}

// hear takes what another node says.
func (n *node) hear(d *peerpb.Gossip) {
	led := uint64(0)
	if n.leading {
		led = n.g.mask
	}
	grew, lost, err := n.gossip.Take(n.matrix, d, led, n.w.time())
	if err != nil {
		n.w.violate("gossip", "%s does not understand %s: %v", n, d.From, err)
	}
	n.w.checkMatrix(n)
	for _, r := range lost {
		n.renewOnce(r)
	}
	if d.Fresh != nil {
		region, _, _ := strings.Cut(d.From, "/")
		if s := n.links[n.w.region(region).of(uint8(d.Fresh.Partition))]; s != nil {
			s.follow(func(time.Time) error {
				out := s.f.Eager(d.Fresh, nil)
				n.w.note("ahead "+string(out), d.Fresh.From, uint64(len(d.Fresh.Records)))
				if out == feeds.Taken {
					n.w.counts.Eager += len(d.Fresh.Records)
				}
				return nil
			})
		}
	}
	if grew {
		n.reached()
	}
}

// checkMatrix: what a node believes of other regions is so, as far as it is about the incarnation that they have now.
func (w *world) checkMatrix(n *node) {
	n.matrix.Rows(func(region string, epochs *feeds.Row, id crdt.OriginID, r feeds.Row) {
		for p, f := range r {
			lead := w.region(region).of(uint8(p)).lead()
			if f == 0 || lead == nil || epochs[p] != lead.m.Self().Incarnation() {
				continue
			}
			if have := lead.m.Cursors(uint8(p))[id]; f > have {
				w.violate("4 nothing is believed that is not so", "%s believes that %s has origin %08x, partition %d, up to %d, and it has %d (epoch %x)",
					n, region, uint32(id), p, f, have, epochs[p])
			}
		}
	})
}
