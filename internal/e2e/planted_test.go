package e2e

import "testing"

// TestProcessFaultsAreFound: a report of the race detector is not overlooked.
func TestProcessFaultsAreFound(t *testing.T) {
	for _, said := range []string{"WARNING: DATA RACE\n", "panic: no\n", "fatal error: all goroutines\n"} {
		p := &process{name: "x", out: newSayings(), errout: newSayings()}
		p.errout.Write([]byte("a line\n" + said))
		if p.faults() == nil {
			t.Errorf("%q was overlooked", said)
		}
	}
}
