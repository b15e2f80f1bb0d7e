package congestion

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestLossDecides: what a link does for a while decides, and what it does for a moment does not.
func TestLossDecides(t *testing.T) {
	type phase struct {
		looks      int
		sent, lost float64 // each look
	}
	for _, c := range []struct {
		name   string
		phases []phase
		lossy  bool
	}{
		{"nothing was ever sent", []phase{{600, 0, 0}}, false},
		{"nothing is lost", []phase{{600, 300, 0}}, false},
		{"one in a thousand is lost", []phase{{600, 1000, 1}}, false},
		{"a hundredth is lost for two seconds", []phase{{60, 300, 0}, {2, 300, 3}}, false},
		{"a hundredth is lost for three seconds", []phase{{60, 300, 0}, {3, 300, 3}}, true},
		{"two hundredths of little are lost", []phase{{60, 60, 0}, {5, 60, 1.2}}, true},
		{"half a hundredth is lost for a while", []phase{{60, 300, 0}, {10, 300, 1.5}}, true},
		{"a queue overflows once", []phase{{60, 300, 0}, {1, 5000, 800}, {600, 300, 0}}, false},
		{"a queue overflows every ten seconds", []phase{{9, 300, 0}, {1, 900, 300}, {9, 300, 0}, {1, 900, 300}, {9, 300, 0}, {1, 900, 300}}, false},
		{"it loses, and is silent for an hour", []phase{{10, 300, 3}, {3600, 0, 0}}, true},
		{"it has stopped to lose five seconds ago", []phase{{60, 300, 3}, {5, 300, 0}}, true},
		{"it has stopped to lose thirteen seconds ago", []phase{{600, 300, 3}, {13, 300, 0}}, false},
		{"it loses a fifth of a hundredth after it lost a whole one", []phase{{60, 300, 3}, {10, 300, 0.6}}, true},
		{"and again after that was clean", []phase{{60, 300, 3}, {60, 300, 0}, {3, 300, 3}}, true},
		{"what was taken for lost had come before", []phase{{60, 300, 1}, {60, 300, -1}}, false},
	} {
		var l loss
		for _, p := range c.phases {
			for range p.looks {
				l = l.next(p.sent, p.lost)
			}
		}
		if l.lossy != c.lossy {
			t.Errorf("%s: lossy %v, level %.1f", c.name, l.lossy, l.level)
		}
	}
}

// TestLossDoesNotFlap: with random loss a connection is switched once, soon, and stays; on a clean link never.
func TestLossDoesNotFlap(t *testing.T) {
	for _, c := range []struct {
		sent     int // a second
		share    float64
		within   int // seconds; 0: never
		switches int // in an hour, at most
	}{
		{300, 0.0005, 0, 0}, {300, 0.001, 0, 2}, {300, 0.01, 15, 1}, {100, 0.01, 60, 5}, {300, 0.02, 8, 1}, {1000, 0.03, 5, 1},
	} {
		for seed := range uint64(20) {
			rng, l := rand.New(rand.NewPCG(seed, 1)), loss{}
			first, switches := 0, 0
			for second := range 3600 {
				was := l.lossy
				l = l.next(float64(c.sent), binomial(rng, c.sent, c.share))
				if l.lossy != was {
					switches++
					if first == 0 {
						first = second + 1
					}
				}
			}
			if switches > c.switches || (c.within > 0 && (first == 0 || first > c.within)) {
				t.Errorf("%g of %d a second, seed %d: switched %d times, first after %d s", c.share, c.sent, seed, switches, first)
			}
		}
	}
}

// binomial counts hits among n, from the gaps between them.
func binomial(rng *rand.Rand, n int, p float64) (hits float64) {
	for at := gap(rng, p); at <= n; at += gap(rng, p) {
		hits++
	}
	return hits
}

func gap(rng *rand.Rand, p float64) int { return 1 + int(math.Log(1-rng.Float64())/math.Log(1-p)) }

// TestShare: it is of the last half minute, and between 0 and 1 whatever was counted.
func TestShare(t *testing.T) {
	var l loss
	if l.share() != 0 {
		t.Errorf("of nothing: %v", l.share())
	}
	for range 200 {
		l = l.next(100, 5)
	}
	if s := l.share(); s < 0.0499 || s > 0.0501 {
		t.Errorf("of a twentieth: %v", s)
	}
	for range 60 {
		l = l.next(100, 0)
	}
	if s := l.share(); s <= 0 || s > 0.01 {
		t.Errorf("a minute later: %v", s)
	}
	if s := l.next(10, -1e6).share(); s != 0 {
		t.Errorf("after more came twice than was lost: %v", s)
	}
}

// TestSince: the kernel's counters are of 32 bits, and begin again.
func TestSince(t *testing.T) {
	was := counts{sent: 1<<32 - 10, again: 1<<32 - 2, twice: 7}
	if sent, lost := (counts{sent: 20, again: 3, twice: 9}).since(was); sent != 30 || lost != 3 {
		t.Errorf("%v sent, %v lost", sent, lost)
	}
	if _, lost := (counts{twice: 2}).since(counts{}); lost != -2 {
		t.Errorf("what came twice: %v lost", lost)
	}
}
