package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/roamsync/roam/replication/feeds"
)

// Violation is a promise that was broken.
type Violation struct {
	Invariant string
	Text      string
	At        time.Duration // since the run began
}

func (v *Violation) String() string { return fmt.Sprintf("%s, at %s: %s", v.Invariant, v.At, v.Text) }

// Result is what came of a run.
type Result struct {
	Plan      *Plan
	Violation *Violation // nil: none
	Hash      uint64     // of all that happened
	Virtual   time.Duration
	Steps     int
	Counts    Counts
}

// Counts say what a run had in it.
type Counts struct {
	Puts, Acks, Commits, Records, Answers, Moves, Faults, Links, Forgets, Trims, Transfers, Eager, Taken, Purges, Evictions int
	Expiries, Expired, Images, Begun                                                                                        int
}

// world is one run.
type world struct {
	*sched
	plan      *Plan
	seed      uint64
	regions   []*region
	groups    []*group // of all regions
	ways      map[[2]string]*wan
	devices   []*device
	forks     map[[2]string]feeds.Forks
	violation *Violation
	counts    Counts
	ended     bool // faults are over
	*ledger
}

// Run does what a plan says, and checks everything on the way. tell, if not nil, is told the story.
func Run(p *Plan, tell func(at time.Duration, line string)) *Result {
	w := newWorld(p, tell)
	w.play()
	w.close()
	return &Result{
		Plan: p, Violation: w.violation, Hash: w.hash.Sum64(), Virtual: w.now, Steps: w.steps, Counts: w.counts,
	}
}

func newWorld(p *Plan, tell func(time.Duration, string)) *world {
	w := &world{sched: newSched(), plan: p, seed: p.Seed, ways: map[[2]string]*wan{}, forks: map[[2]string]feeds.Forks{}}
	w.story = tell
	w.ledger = newLedger()
	for i := range p.Nodes {
		w.newRegion(i)
	}
	for _, a := range w.regions {
		for _, b := range w.regions {
			if a != b {
				w.ways[[2]string{a.name, b.name}] = w.newWay(a.name, b.name)
			}
		}
	}
	for i := range p.Devices {
		w.devices = append(w.devices, w.newDevice(i))
	}
	return w
}

var regionNames = []string{"beijing", "shanghai", "guangzhou", "chengdu", "harbin"}

// newGroup makes one of a region's groups: all its nodes are in each.
func (w *world) newGroup(r *region, part, of, nodes int) *group {
	g := &group{w: w, name: r.name, region: r, part: part, mask: partsOf(part, of), oids: map[string]int{}}
	g.rng, g.trims = dice(w.seed, "group "+g.label()), dice(w.seed, "trims "+g.label())
	clocks := dice(w.seed, "clocks "+g.name)
	for at := range nodes {
		n := &node{g: g, w: w, name: fmt.Sprintf("n%d", at+1), at: at, clean: true}
		if part > 0 {
			n.name = fmt.Sprintf("n%d.%d", at+1, part)
		}
		n.loseDisk()
		n.setClock(clocks)
		if w.plan.Removed > 0 {
			n.skew %= 500 * time.Millisecond
		}
		g.nodes = append(g.nodes, n)
	}
	return g
}

// setClock draws how wrong a machine's clock is: often not at all, so that stamps meet.
func (n *node) setClock(r *rand.Rand) {
	switch r.IntN(6) {
	case 0:
		n.skew = between(r, -90*time.Second, 90*time.Second)
	case 1, 2:
		n.skew = between(r, -300*time.Millisecond, 300*time.Millisecond)
		n.drift = (r.Float64() - 0.5) / 500
	}
}

func (w *world) newWay(a, b string) *wan {
	r := dice(w.seed, "way "+a+" "+b)
	l := &wan{rng: r, delay: between(r, time.Millisecond, 80*time.Millisecond), jitter: between(r, 0, 20*time.Millisecond)}
	l.air = dice(w.seed, "datagrams "+a+" "+b)
	if l.air.IntN(2) == 0 {
		l.loss = l.air.Float64() / 10
	}
	return l
}

func (w *world) way(a, b *group) *wan { return w.ways[[2]string{a.name, b.name}] }

// forksOf is what a node's process remembers of the feeds of another region's group.
func (w *world) forksOf(n *node, g *group) feeds.Forks {
	k := [2]string{fmt.Sprint(n, n.life), g.label()}
	if w.forks[k] == nil {
		w.forks[k] = feeds.Forks{}
	}
	return w.forks[k]
}

func (w *world) stopped() bool {
	if w.still > maxStill {
		w.violate("12 liveness", "over %d steps, and no time passes", maxStill)
	}
	return w.violation != nil
}

// maxStill is how many steps may come at one moment: something that is due and is not done when its time has come is asked for for ever.
const maxStill = 100_000

// violate notes the first promise that is broken, and ends the run.
func (w *world) violate(invariant, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{invariant, fmt.Sprintf(format, args...), w.now}
		w.tell("VIOLATION of %s: %s", invariant, w.violation.Text)
	}
}

// settleLimit is how long after the last fault everything has to be level.
const settleLimit = 3 * time.Minute

// play runs the plan: first what users and faults do, then the calm in which all has to become level.
func (w *world) play() {
	for _, g := range w.groups {
		g.start()
	}
	for _, d := range w.devices {
		d.begin()
	}
	w.transfers()
	for i := range w.plan.Faults {
		f := &w.plan.Faults[i]
		w.after(f.At, func() { w.strike(f) })
	}
	for i := range w.plan.Acts {
		a := &w.plan.Acts[i]
		w.after(a.At, func() { w.act(a) })
	}
	w.run(w.plan.Length, w.stopped)
	w.heal()
	w.without()
	w.settle()
	if !w.stopped() {
		w.checkEnd()
	}
}

// settle waits until all is level.
func (w *world) settle() {
	calm, ops := 0, 0 // looks in a row at which all was level, and no op was new: clients have heard of all
	for deadline := w.now + settleLimit; !w.stopped() && calm < 2; {
		w.run(w.now+time.Second, w.stopped)
		why := w.unsettled()
		if why == "" && len(w.ops) > ops {
			why = "ops are still issued"
		}
		ops = len(w.ops)
		if calm++; why == "" {
			continue
		}
		calm = 0
		if w.now >= deadline {
			w.violate("12 liveness", "%s after the last fault: %s", settleLimit, why)
		}
	}
}

// close lets go of what a run holds outside of itself.
func (w *world) close() {
	for _, g := range w.groups {
		for _, n := range g.nodes {
			if n.lead != nil {
				n.lead.end()
			}
		}
		for _, wk := range g.workers {
			wk.kill()
		}
		if g.redis != nil {
			g.redis.close()
		}
	}
}

func (g *group) start() {
	if g.w.plan.Workers > 0 {
		g.redis = newRedis(g)
	}
	for _, n := range g.nodes {
		n.start()
	}
	for i := range g.w.plan.Workers {
		wk := &worker{g: g, at: i}
		g.workers = append(g.workers, wk)
		wk.start()
	}
	g.tidy()
}

// tidy flushes and cuts logs now and then, as the product does on its own.
func (g *group) tidy() {
	g.w.after(between(g.rng, 3*time.Second, 15*time.Second), func() {
		for _, n := range g.voters() {
			if g.rng.IntN(2) == 0 {
				n.flush()
			}
		}
		if g.rng.IntN(3) == 0 {
			g.cutLog()
		}
		if !g.w.ended {
			g.tidy()
		}
	})
}

// Add adds another run's counts.
func (c *Counts) Add(o Counts) {
	c.Puts += o.Puts
	c.Acks += o.Acks
	c.Commits += o.Commits
	c.Records += o.Records
	c.Answers += o.Answers
	c.Moves += o.Moves
	c.Faults += o.Faults
	c.Links += o.Links
	c.Forgets += o.Forgets
	c.Trims += o.Trims
	c.Transfers += o.Transfers
	c.Eager += o.Eager
	c.Taken += o.Taken
	c.Purges += o.Purges
	c.Expiries += o.Expiries
	c.Expired += o.Expired
	c.Evictions += o.Evictions
	c.Images += o.Images
	c.Begun += o.Begun
}
