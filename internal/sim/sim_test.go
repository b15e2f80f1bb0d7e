package sim

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSeeds runs some seeds; `make sim` runs more.
func TestSeeds(t *testing.T) {
	for seed := uint64(1); seed <= 24; seed++ {
		if r := Run(NewPlan(seed), nil); r.Violation != nil {
			t.Errorf("seed %d: %s", seed, r.Violation)
		}
	}
}

// TestSeedsThatFailed runs those that have found something once.
func TestSeedsThatFailed(t *testing.T) {
	f, err := os.Open("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		number, found, ok := strings.Cut(lines.Text(), " ")
		seed, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil {
			t.Fatalf("testdata/seeds has the line %q: a seed and what it found are needed", lines.Text())
		}
		if r := Run(NewPlan(seed), nil); r.Violation != nil {
			t.Errorf("seed %d, which has once found %s: %s", seed, found, r.Violation)
		}
	}
}

// TestReplay: a seed does the same again, to the last byte.
func TestReplay(t *testing.T) {
	answers := 0
	for seed := uint64(100); seed < 112; seed++ {
		a, b := Run(NewPlan(seed), nil), Run(NewPlan(seed), func(time.Duration, string) {})
		if a.Hash != b.Hash || a.Steps != b.Steps || a.Virtual != b.Virtual {
			t.Errorf("seed %d: %x after %d steps, then %x after %d", seed, a.Hash, a.Steps, b.Hash, b.Steps)
		}
		answers += a.Counts.Answers
	}
	if answers == 0 {
		t.Error("nobody was answered: the runs prove nothing of Redis and workers")
	}
	if a, b := Run(NewPlan(1), nil), Run(NewPlan(2), nil); a.Hash == b.Hash {
		t.Error("two seeds do the same")
	}
}

// TestShrink: of a plan that breaks something because of two faults and an act, only those are left.
func TestShrink(t *testing.T) {
	p := NewPlan(7)
	p.Faults = make([]Fault, 13)
	for i := range p.Faults {
		p.Faults[i].N = i
	}
	act := p.Acts[len(p.Acts)/2].OID
	broken := func(p *Plan) *Violation {
		need := 0
		for _, f := range p.Faults {
			if f.N == 3 || f.N == 11 {
				need++
			}
		}
		for _, a := range p.Acts {
			if a.OID == act {
				need++
			}
		}
		if need < 3 {
			return nil
		}
		return &Violation{Invariant: "it"}
	}
	got := Shrink(p, "it", 1000, broken)
	if len(got.Faults) != 2 || len(got.Acts) != 1 || got.Acts[0].OID != act {
		t.Errorf("%d faults and %d acts are left", len(got.Faults), len(got.Acts))
	}
	if same := Shrink(p, "another", 1000, broken); len(same.Faults) != 13 {
		t.Error("another promise was taken for it")
	}
}
