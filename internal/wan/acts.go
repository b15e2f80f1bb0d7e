package wan

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// over is a shape on top of another: what is not zero counts.
func (s Shape) over(normal Shape) Shape {
	if s.Delay > 0 {
		normal.Delay = s.Delay
	}
	if s.Jitter > 0 {
		normal.Jitter = s.Jitter
	}
	if s.Loss > 0 {
		normal.Loss = s.Loss
	}
	if s.Duplicate > 0 {
		normal.Duplicate = s.Duplicate
	}
	if s.Rate > 0 {
		normal.Rate = s.Rate
	}
	normal.Cut = s.Cut
	return normal
}

// act plays a scenario's acts, from now on, and returns when the last has been. say is told of each.
func (w *world) act(ctx context.Context, sc *Scenario, c *crowd, say func(string)) error {
	start := time.Now()
	for i := range sc.Acts {
		a := &sc.Acts[i]
		timer := time.NewTimer(a.At - time.Since(start))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		if a.Do != Travel { // which is all the time
			say(w.tell(a, sc.Base))
		}
		if err := w.do(ctx, a, sc.Base, c); err != nil {
			return fmt.Errorf("%s: %w", w.tell(a, sc.Base), err)
		}
	}
	return nil
}

// covers says whether a pair is one that an act speaks of.
func (w *world) covers(a *Act, p Pair) bool {
	is := func(region int, name string) bool { return region == Any || w.regions[region].name == name }
	return is(a.From, p.From) && is(a.To, p.To) || a.Both && is(a.From, p.To) && is(a.To, p.From)
}

func (w *world) do(ctx context.Context, a *Act, base Shape, c *crowd) error {
	switch a.Do {
	case Set:
		for _, p := range w.pairs() {
			if w.covers(a, p) {
				w.ground.Ways().Shape(p, a.Shape.over(base.over(w.normal)))
			}
		}
		return nil
	case Kill:
		for _, n := range w.meant(a) {
			n.kill()
		}
		return nil
	case Freeze, Thaw:
		for _, n := range w.meant(a) {
			n.freeze(a.Do == Freeze)
		}
		if a.Do == Thaw {
			c.goHome(w.regions[a.From].name)
		}
		return nil
	case Travel:
		c.travel(w.regions[a.From].name, w.regions[a.To].name, a.Share, a.Hard)
		return nil
	case Wipe:
		var errs []error
		for _, n := range w.regions[a.From].nodes {
			errs = append(errs, n.wipe())
		}
		return errors.Join(errs...)
	case Start:
		return w.back(ctx, a, c)
	case Skew:
		var errs []error
		for _, n := range w.regions[a.From].nodes {
			errs = append(errs, n.stop())
			n.offset = a.Offset
		}
		return errors.Join(append(errs, w.back(ctx, a, c))...)
	}
	return fmt.Errorf("no such deed: %d", a.Do)
}

// meant are the nodes of an act.
func (w *world) meant(a *Act) []*node {
	all := w.regions[a.From].nodes
	if a.Node > 0 {
		return all[a.Node-1 : a.Node]
	}
	return all
}

// back starts nodes, and their region's clients go there again.
func (w *world) back(ctx context.Context, a *Act, c *crowd) error {
	if err := w.start(ctx, w.meant(a)...); err != nil {
		return err
	}
	if c != nil {
		c.goHome(w.regions[a.From].name)
	}
	return nil
}

// tell says an act in words.
func (w *world) tell(a *Act, base Shape) string {
	name := func(region int) string {
		if region == Any {
			return "all"
		}
		return w.regions[region].name
	}
	node := ""
	if a.Node > 0 {
		node = fmt.Sprintf("-n%d", a.Node)
	}
	switch a.Do {
	case Set:
		arrow := " → "
		if a.Both {
			arrow = " ↔ "
		}
		return name(a.From) + arrow + name(a.To) + ": " + a.Shape.over(base.over(w.normal)).String()
	case Kill:
		return name(a.From) + node + " loses power"
	case Wipe:
		return name(a.From) + " has empty disks"
	case Start:
		return name(a.From) + node + " starts"
	case Freeze:
		return name(a.From) + " stands still"
	case Thaw:
		return name(a.From) + " goes on"
	case Travel:
		return fmt.Sprintf("%.0f %% of the people go from %s to %s", 100*a.Share, name(a.From), name(a.To))
	}
	return fmt.Sprintf("%s starts again, with its clock off by %s", name(a.From), a.Offset)
}
