package sim

import (
	"slices"
	"time"
)

// strike does a fault, and plans its end.
func (w *world) strike(f *Fault) {
	if w.ended {
		return
	}
	g := w.regions[f.Region].groups[0] // its nodes are those of the region
	if g.away {
		return // it is to come back as it was: with the disks of all regions lost, what clients still have takes minutes
	}
	n := g.nodes[f.N%len(g.nodes)]
	undo := w.hit(f, g, n)
	if undo == nil {
		return // it would be more than is promised to be survived, or makes no sense here
	}
	w.counts.Faults++
	w.note("fault "+string(f.Kind), uint64(f.Region), uint64(f.N))
	w.tell("FAULT %s", f)
	w.after(f.For, func() {
		if !w.ended {
			w.tell("fault over: %s", f)
			undo()
		}
	})
}

func (w *world) hit(f *Fault, g *group, n *node) (undo func()) {
	switch f.Kind {
	case faultCut, faultCutOne, faultAlone, faultLossy:
		return w.hitWays(f, g)
	case faultCrash, faultQuit, faultCrashAll, faultDisk, faultBurn, faultBack:
		return w.hitProcess(f, g, n)
	case faultGone:
		if slices.ContainsFunc(w.regions, (*region).out) {
			return nil // what is given up is closed when all others are heard, and this one comes back when all else is well
		}
		for _, o := range g.region.groups {
			w.leave(o)
		}
		return func() {}
	case faultEvict:
		return w.hitRegion(f, g)
	case faultImage:
		return w.hitImage(f, g)
	}
	if f.Kind == faultIsolate && (len(g.nodes) == 1 || n.isolated) {
		return nil
	}
	var all []func()
	for _, o := range n.process() {
		all = append(all, w.hitNode(f, o.g, o))
	}
	return func() {
		for _, undo := range all {
			undo()
		}
	}
}

// hitNode is what a fault does to a node in one of its groups, or to that group.
func (w *world) hitNode(f *Fault, g *group, n *node) (undo func()) {
	switch f.Kind {
	case faultIsolate:
		n.isolated = true
		g.disturb()
		return func() { n.isolated = false; g.disturb(); n.after(0, n.catchUp) }
	case faultPause:
		n.pause()
		return n.resume
	case faultSlow:
		n.slow = time.Duration(1+f.N%40) * time.Millisecond
		g.troubled = w.now
		return func() { n.slow = 0; g.troubled = w.now }
	case faultStall:
		g.stall = w.now + min(f.For, 2*time.Second)
		return g.disturb
	case faultShaky:
		g.shaky = true
		return func() { g.shaky = false; g.troubled = w.now }
	case faultClock:
		return n.jump(f)
	case faultWipe:
		g.redis.wipe()
	case faultRedis:
		g.redis.part()
		return func() { g.redis.down = false }
	case faultWorker:
		wk := g.workers[f.N%len(g.workers)]
		wk.kill()
		return wk.start
	case faultStuck:
		wk := g.workers[f.N%len(g.workers)]
		wk.stuck = true
		return func() { wk.stuck = false }
	case faultAccess:
		g.shut++
		return func() { g.shut-- }
	}
	return func() {}
}

// disturb notes trouble inside a region, and has it look for its leader.
func (g *group) disturb() {
	g.troubled = g.w.now
	g.look()
}

func (w *world) hitWays(f *Fault, g *group) (undo func()) {
	other := w.regions[f.N%len(w.regions)]
	if other == g.region && f.Kind != faultAlone {
		other = w.regions[(f.Region+1)%len(w.regions)]
	}
	if f.Kind == faultLossy {
		l := w.way(g, other.groups[0])
		l.lossy = 0.02 + float64(f.N%30)/100
		return func() { l.lossy = 0 }
	}
	var all []*wan
	for _, r := range w.regions {
		if r == g.region || r != other && f.Kind != faultAlone {
			continue
		}
		all = append(all, w.way(g, r.groups[0]))
		if f.Kind != faultCutOne {
			all = append(all, w.way(r.groups[0], g))
		}
	}
	for _, l := range all {
		l.cut++
	}
	return func() {
		for _, l := range all {
			l.cut--
		}
	}
}

func (w *world) hitProcess(f *Fault, g *group, n *node) (undo func()) {
	nodes := n.process()
	if f.Kind == faultCrashAll || f.Kind == faultBurn {
		nodes = g.region.nodes()
	}
	switch f.Kind {
	case faultDisk: // of more than one at a time would be a region that is lost
		if len(g.nodes) == 1 || len(g.voters()) < len(g.nodes) {
			return nil
		}
	case faultBack:
		if len(g.nodes) > 1 {
			return nil
		}
	}
	for _, n := range nodes {
		if f.Kind == faultQuit {
			n.quit()
		}
		n.kill()
	}
	switch f.Kind {
	case faultDisk:
		for _, n := range nodes {
			n.loseDisk()
			if f.N%2 == 0 {
				n.g.cutLog()
			}
		}
	case faultBurn:
		g.region.burn()
	case faultBack:
		keep := g.first + f.N%(len(g.log)-g.first+1)
		n.goBack(max(keep, int(appliedIn(n.durable))))
	}
	return func() {
		for _, n := range nodes {
			n.start()
		}
	}
}

// jump sets a clock forward or back.
func (n *node) jump(f *Fault) (undo func()) {
	by := time.Duration(f.N%240-120) * time.Second
	if f.N%3 == 0 {
		by /= 1000
	}
	n.skew += by
	n.drift = float64(f.N%7-3) / 1000
	n.since = n.w.now
	return func() {}
}

// leave has a group of a region go that goes as a whole. It stays away, whatever other fault of it ends, until comeBack.
func (w *world) leave(g *group) {
	for _, n := range g.nodes {
		n.kill()
	}
	g.away = true
}

// comeBack brings back the region that left.
func (g *group) comeBack() {
	g.away = false
	g.troubled = g.w.now
	for _, n := range g.nodes {
		n.start()
	}
}

// heal ends all faults, and brings everybody back.
func (w *world) heal() {
	w.ended = true
	w.tell("HEAL: no more faults")
	for _, l := range w.ways {
		l.cut, l.lossy = 0, 0
	}
	for _, g := range w.groups {
		if g.shaky || len(g.voters()) < len(g.nodes) {
			g.troubled = w.now
		}
		g.shaky, g.stall, g.shut = false, 0, 0
		for _, n := range g.nodes {
			n.isolated, n.slow = false, 0
			n.resume()
			n.start()
			n.after(0, n.catchUp)
		}
		if g.redis != nil {
			g.redis.down = false
		}
		for _, wk := range g.workers {
			wk.stuck = false
			wk.start()
		}
		g.look()
	}
	for _, d := range w.devices {
		d.comeBack()
	}
}
