package bubble

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/internal/raced"
)

// fewSeeds are tried by every run of the tests, one under the race detector, where they take ten times as long; BUBBLE_SEEDS and
// BUBBLE_SEED_BASE say otherwise (`make bubble`).
var fewSeeds = 3

func init() {
	if raced.On {
		fewSeeds = 1
	}
}

const (
	// mixTime is how long things happen in one seed, in fake time.
	mixTime = 2 * time.Minute
)

// TestSeeds: what users do and what breaks is drawn from a seed.
func TestSeeds(t *testing.T) {
	seeds, base := number(t, "BUBBLE_SEEDS", fewSeeds), number(t, "BUBBLE_SEED_BASE", 1)
	failed, began := 0, time.Now()
	for i := range seeds {
		seed := uint64(base + i)
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { play(t, seed) }) {
			failed++
			t.Logf("seed %d breaks a promise. Again: make bubble SEEDS=1 SEED_BASE=%d", seed, seed)
		}
		if seeds > fewSeeds {
			spent := time.Since(began).Round(time.Second)
			fmt.Fprintf(os.Stderr, "\rbubble: %d of %d seeds in %s, %d broke a promise ", i+1, seeds, spent, failed)
		}
	}
	if seeds > fewSeeds {
		fmt.Fprintln(os.Stderr)
	}
}

func number(t *testing.T, name string, otherwise int) int {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: a number from 1 on is needed", name, v)
	}
	return n
}

// shapes are the regions that a seed may have.
var shapes = []plan{
	{{"beijing", 1}, {"shanghai", 1}},
	{{"beijing", 3}, {"shanghai", 1}},
	{{"beijing", 1}, {"shanghai", 1}, {"guangzhou", 1}},
	{{"beijing", 3}, {"shanghai", 1}, {"guangzhou", 1}},
}

// play runs one seed.
func play(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	inBubble(t, seed, shapes[rng.IntN(len(shapes))], func(w *world) {
		m := &mix{w: w, rng: rng}
		for i, who := range []struct{ user, device, session string }{
			{"alice", "phone", trip}, {"alice", "laptop", trip}, {"bob", "tablet", "bob/work"}, {"bob", "desk", "bob/work"},
		} {
			w.newDevice(who.user, who.device, who.session, w.regions[i%len(w.regions)].name)
		}
		for end := time.Now().Add(mixTime); time.Now().Before(end); {
			m.act()
			m.ill()
			pass(time.Duration(rng.Int64N(int64(1500 * time.Millisecond))))
		}
	})
}

// mix draws what happens next.
type mix struct {
	w   *world
	rng *rand.Rand
}

// acts are what may happen, and how often.
var acts = []struct {
	weight int
	do     func(*mix)
}{
	{30, func(m *mix) { m.device().say() }},
	{14, func(m *mix) { m.device().ask(1 + m.rng.IntN(60)) }},
	{8, func(m *mix) { m.device().set("title") }},
	{8, func(m *mix) { m.device().move(m.site().name) }},
	{4, func(m *mix) { m.device().sdk.Cut() }},
	{2, func(m *mix) { m.device().away(memnet.Break) }},
	{4, func(m *mix) { m.device().away(memnet.Open) }},
	{3, func(m *mix) { m.w.cutBoth(m.site().name, m.site().name, m.kind()) }},
	{3, func(m *mix) { m.w.cut(m.site(), m.site(), m.kind()) }},
	{6, func(m *mix) { m.w.cutBoth(m.site().name, m.site().name, memnet.Open) }},
	{2, func(m *mix) { m.node().alone(m.kind()) }},
	{4, func(m *mix) { m.node().alone(memnet.Open) }},
	{5, func(m *mix) { m.node().crash() }},
	{1, func(m *mix) { m.blackout(m.site()) }},
	{2, func(m *mix) { m.node().stop() }},
	{10, func(m *mix) { m.node().start() }},
	{1, func(m *mix) { m.site().redis.wipe() }},
}

func (m *mix) act() {
	sum := 0
	for _, a := range acts {
		sum += a.weight
	}
	at := m.rng.IntN(sum)
	for _, a := range acts {
		if at -= a.weight; at < 0 {
			a.do(m)
			return
		}
	}
}

func (m *mix) device() *device { return m.w.devices[m.rng.IntN(len(m.w.devices))] }
func (m *mix) site() *site     { return m.w.regions[m.rng.IntN(len(m.w.regions))] }

func (m *mix) node() *node {
	s := m.site()
	return s.nodes[m.rng.IntN(len(s.nodes))]
}

func (m *mix) kind() memnet.Cut {
	if m.rng.IntN(2) == 0 {
		return memnet.Stall
	}
	return memnet.Break
}

// blackout takes the power of a whole region.
func (m *mix) blackout(s *site) {
	for _, n := range s.nodes {
		n.crash()
	}
}

// ill notes the regions in which something is wrong now.
func (m *mix) ill() {
	for _, s := range m.w.regions {
		for _, n := range s.nodes {
			if n.life == nil || !n.life.serving.Load() || n.cut {
				s.ill(healing)
			}
		}
	}
}

// alone cuts a node off from the others of its region, or lets it back.
func (n *node) alone(c memnet.Cut) {
	if n.cut = c != memnet.Open; n.cut {
		n.s.ill(healing)
	}
	for _, other := range n.s.places() {
		if other != n.place {
			n.w.net.CutBoth(n.place, other, c)
		}
	}
}

// away takes a device's network, or gives it back.
func (d *device) away(c memnet.Cut) {
	for _, s := range d.w.regions {
		for _, place := range s.places() {
			d.w.net.CutBoth(d.place, place, c)
		}
	}
}
