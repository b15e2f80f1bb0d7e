package wan

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// chance makes the acts of a scenario that a seed decides: one fault after the other, of links and of regions, and people who travel
// meanwhile. All is healed in the end. The same seed gives the same acts.
type chance struct {
	dice           *rand.Rand
	regions, nodes int
	freezes        bool // processes can be stopped
	longest        time.Duration
	acts           []Act
}

// The times of a random scenario.
const (
	firstFault   = 5 * second
	calmAfter    = 5 * second // after the last fault
	longestFault = 25 * second
	// calmWipe is before and after disks are lost: nothing that was acknowledged is to be in that region alone, or in two that lose theirs.
	calmWipe = 10 * second
)

// randomActs are those of a seed.
func randomActs(length time.Duration, regions, nodes int, freezes bool, seed uint64) []Act {
	c := &chance{dice: rand.New(rand.NewPCG(seed, 7)), regions: regions, nodes: nodes, freezes: freezes,
		longest: min(longestFault, length/5)}
	for at := firstFault; ; {
		next := c.fault(at, length-calmAfter)
		if next == 0 {
			break
		}
		at = next
	}
	for at := firstFault; at < length; at += c.between(second/2, 3*second) {
		from, to := c.two()
		c.add(Act{At: at, Do: Travel, From: from, To: to, Share: c.share(200), Hard: c.dice.IntN(2) == 0})
	}
	slices.SortStableFunc(c.acts, func(a, b Act) int { return cmp.Compare(a.At, b.At) })
	return c.acts
}

func (c *chance) add(acts ...Act) { c.acts = append(c.acts, acts...) }

// share is at most most, in thousandths.
func (c *chance) share(most int) float64 { return float64(c.dice.IntN(most+1)) / 1000 }

func (c *chance) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.dice.Int64N(int64(most-least))).Truncate(time.Millisecond)
}

// two are different regions.
func (c *chance) two() (a, b int) {
	a = c.dice.IntN(c.regions)
	return a, (a + 1 + c.dice.IntN(c.regions-1)) % c.regions
}

// fault adds one that begins at a moment, and returns when the next may; 0: there is no time left.
func (c *chance) fault(at, end time.Duration) (next time.Duration) {
	hold := min(c.between(second/2, 4*second)<<c.dice.IntN(4), c.longest)
	kind := c.dice.IntN(10)
	if kind == 9 {
		at += calmWipe
	}
	if at+hold+hold/2 > end {
		return 0
	}
	next = at + hold + c.between(second, 5*second)
	switch {
	case kind < 6:
		c.link(kind, at, hold)
		if c.dice.IntN(3) == 0 { // another begins before this one is over
			c.link(c.dice.IntN(6), at+hold/2, hold)
			next += hold / 2
		}
	case kind < 9:
		c.region(kind, at, hold)
	default:
		a := c.dice.IntN(c.regions)
		c.add(Act{At: at, Do: Kill, From: a}, Act{At: at, Do: Wipe, From: a}, Act{At: at + hold, Do: Start, From: a})
		next += calmWipe
	}
	return next
}

// link adds a fault of ways between regions.
func (c *chance) link(kind int, at, hold time.Duration) {
	a, b := c.two()
	during := func(first Act, shape Shape) {
		first.At, first.Shape = at, shape
		c.add(first)
		first.At, first.Shape = at+hold, Shape{}
		c.add(first)
	}
	all, pair := Act{From: a, To: Any, Both: true}, Act{From: a, To: b, Both: true}
	switch kind {
	case 0:
		during(all, cut)
	case 1:
		during(pair, cut)
	case 2:
		during(Act{From: a, To: b}, cut)
	case 3:
		each := c.between(second/10, 2*second)
		c.add(flap(at, at+hold, a, b, each)...)
	case 4:
		during(all, Shape{Loss: c.share(200), Duplicate: c.share(50), Jitter: c.between(0, 50*time.Millisecond)})
	case 5:
		during(all, Shape{Delay: c.between(20*time.Millisecond, 300*time.Millisecond), Rate: 50_000 << c.dice.IntN(4)})
	}
}

// region adds a fault of machines.
func (c *chance) region(kind int, at, hold time.Duration) {
	a, b := c.two()
	switch {
	case kind == 6 && c.dice.IntN(2) == 0: // a clock, or merely a restart in order
		off := time.Duration(0)
		if c.dice.IntN(2) == 0 {
			off = c.between(-60*second, 60*second)
		}
		c.add(Act{At: at, Do: Skew, From: a, Offset: off}, Act{At: at + hold, Do: Skew, From: a})
	case kind == 6 && c.freezes:
		c.add(Act{At: at, Do: Freeze, From: a}, Act{At: at + hold, Do: Thaw, From: a})
	case kind == 7 && c.nodes > 1:
		node := 1 + c.dice.IntN(c.nodes)
		c.add(Act{At: at, Do: Kill, From: a, Node: node}, Act{At: at + hold, Do: Start, From: a, Node: node})
	case kind == 7: // two at once
		c.add(Act{At: at, Do: Kill, From: a}, Act{At: at + hold/3, Do: Kill, From: b},
			Act{At: at + hold/2, Do: Start, From: a}, Act{At: at + hold, Do: Start, From: b})
	default:
		c.add(Act{At: at, Do: Kill, From: a}, Act{At: at + hold, Do: Start, From: a})
	}
}
