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
	g := w.groups[f.Region]
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
		if slices.ContainsFunc(w.groups, func(o *group) bool { return o.out }) {
			return nil // what is given up is closed when all others are heard, and this one comes back when all else is well
		}
		w.leave(g)
		return func() {}
	case faultEvict:
		return w.hitRegion(f, g)
	case faultImage:
		return w.hitImage(f, g)
	case faultIsolate:
		if len(g.nodes) == 1 || n.isolated {
			return nil
		}
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
		return func() {}
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
	return nil
}

// disturb notes trouble inside a region, and has it look for its leader.
func (g *group) disturb() {
	g.troubled = g.w.now
	g.look()
}

func (w *world) hitWays(f *Fault, g *group) (undo func()) {
	other := w.groups[f.N%len(w.groups)]
	if other == g && f.Kind != faultAlone {
		other = w.groups[(f.Region+1)%len(w.groups)]
	}
	if f.Kind == faultLossy {
		l := w.way(g, other)
		l.lossy = 0.02 + float64(f.N%30)/100
		return func() { l.lossy = 0 }
	}
	var all []*wan
	for _, o := range w.groups {
		if o == g || o != other && f.Kind != faultAlone {
			continue
		}
		all = append(all, w.way(g, o))
		if f.Kind != faultCutOne {
			all = append(all, w.way(o, g))
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
	nodes := []*node{n}
	if f.Kind == faultCrashAll || f.Kind == faultBurn {
		nodes = g.nodes
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
		n.loseDisk()
		if f.N%2 == 0 {
			g.cutLog()
		}
	case faultBurn:
		w.forget(g, 0)
		for _, n := range nodes {
			n.loseDisk()
		}
	case faultBack:
		keep := g.first + f.N%(len(g.log)-g.first+1)
		keep = max(keep, int(appliedIn(n.durable)))
		w.forget(g, keep)
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

// leave has a region go as a whole. It stays away, whatever other fault of it ends, until comeBack.
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
