package sim

import (
	"time"

	"github.com/roamsync/roam/crdt"
	product "github.com/roamsync/roam/region"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/replication/feeds"
)

// purgeEvery is how often a leader looks for sessions that nobody uses, as the product has it.
const purgeEvery = time.Second

// purge removes sessions that nobody has used for long, as the product does, while there are faults: in the calm after them, what is left is
// compared.
func (n *node) purge(i *machine.Idle) {
	if n.idle != i || n.w.plan.TTL == 0 || n.w.ended {
		return
	}
	others := n.others()
	all := append([]string{n.g.name}, others...)
	c, err := i.Look(n.m, n.g.mask, product.Expiry(n.now(), n.w.plan.TTL), func(session string, p uint8, seen crdt.Vector) bool {
		return feeds.Home(session, all) == n.g.name && n.matrix.CaughtUp(others, p, seen, n.Evictions(p))
	})
	if err != nil {
		n.w.violate("state", "%s: %v", n, err)
	}
	if c != nil {
		n.do(c, func(machine.Result) {})
	}
	n.after(purgeEvery, func() { n.purge(i) })
}

// checkPurge: what is purged was not used for as long as it must not be, by the clock of who purges it.
func (w *world) checkPurge(n *node, op *crdt.Op) {
	w.counts.Purges++
	last := int64(0)
	for k, o := range w.ops {
		if o.Session == op.Session && o.Kind != crdt.KindExpire && k.f <= op.Seen[k.origin] {
			last = max(last, o.TS)
		}
	}
	if op.TS-last < w.plan.TTL.Milliseconds() {
		w.violate(removals, "%s purges %s, which was used %d ms before", n, op.Session, op.TS-last)
	}
}
