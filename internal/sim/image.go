package sim

import (
	"time"

	"github.com/roamsync/roam/region/machine"
)

// hitImage has one node of three lag behind, and then puts back the disk of another to what it was, while the third, which has all that was
// committed since, is down: the two that are left are a majority without it.
func (w *world) hitImage(f *Fault, g *group) (undo func()) {
	if len(g.nodes) != 3 || len(g.region.groups) > 1 || len(g.voters()) < 3 || g.out {
		return nil
	}
	kept, back, gone := g.nodes[f.N%3], g.nodes[(f.N+1)%3], g.nodes[(f.N+2)%3]
	image, forgets := back.mem.Clone(), g.forgets
	kept.isolated = true
	g.disturb()
	w.after(f.For/2, func() {
		if !w.ended && !g.away && !g.out && g.forgets == forgets && kept.up && !kept.paused {
			w.putBack(g, kept, back, gone, image)
		}
	})
	return func() {
		kept.isolated = false
		g.disturb()
		kept.after(0, kept.catchUp)
		back.start()
		gone.start()
	}
}

// putBack has a region go on with a node that lags, and another from an image of its disk. The third, if it has applied what they lack, starts empty.
func (w *world) putBack(g *group, kept, back, gone *node, image *machine.Mem) {
	had := int(appliedIn(image))
	keep := max(had, int(kept.m.Applied()))
	if min(had, int(kept.m.Applied())) < g.first || keep >= len(g.log) {
		return // nobody would have what the others' logs are cut to, or nothing is forgotten
	}
	w.counts.Images++
	w.tell("%s: the disk of %s goes back to entry %d, %s has %d, and %s is gone", g.name, back.name, had, kept.name, kept.m.Applied(), gone.name)
	back.kill()
	gone.kill()
	w.forget(g, keep)
	back.durable, back.clean = image, false // its process ran when the image was made, whether it has ended in order since or not
	if int(appliedIn(gone.durable)) > keep {
		gone.loseDisk()
	}
	kept.isolated = false
	back.start()
	g.disturb()
	kept.after(0, kept.catchUp)
}

// drawImages has the disk of one node go back in some regions of three.
func (p *Plan) drawImages() {
	r := dice(p.Seed, "images")
	for region, nodes := range p.Nodes {
		if nodes == 3 && r.IntN(4) == 0 {
			p.Faults = append(p.Faults, Fault{
				At: between(r, time.Second, p.Length-5*time.Second), For: between(r, time.Second, 20*time.Second), Kind: faultImage,
				Region: region, N: r.IntN(1 << 16),
			})
		}
	}
	p.sortFaults()
}
