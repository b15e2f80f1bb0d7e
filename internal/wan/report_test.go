package wan

import (
	"testing"
	"time"
)

// goals are the goals of a report's last rows, and whether they are met.
func goals(r *Report) map[string]bool {
	all := map[string]bool{}
	for _, row := range r.Rows {
		if row.Goal != "" {
			all[row.Measure] = row.Met
		}
	}
	return all
}

// TestWhatWasNotMeasuredMeetsNoGoal: nothing is fast, or little, because it was not seen.
func TestWhatWasNotMeasuredMeetsNoGoal(t *testing.T) {
	sc, r := &Scenario{Name: "x", Goals: speed}, &Report{}
	r.idle(sc, nil, time.Second)
	r.timed(sc, "delivered", spreadOf(nil))
	r.resumed(sc, true, spreadOf(nil))
	at := [4]time.Duration{0, time.Second, 2 * time.Second, 2*time.Second + time.Millisecond}
	r.caughtUp(sc, []sample{{time.Second / 2, time.Second}}, 1000, at)
	for what, met := range goals(r) {
		if met {
			t.Errorf("%s is met, and was not measured", what)
		}
	}
	r = &Report{}
	r.idle(sc, map[Pair]Count{{"a", "b"}: {Bytes: 900}}, time.Second)
	at[3] = 3 * time.Second
	r.caughtUp(sc, []sample{{time.Second / 2, time.Second}, {3 * time.Second / 2, time.Second}}, 100_000, at)
	for what, met := range goals(r) {
		if !met {
			t.Errorf("%s is not met", what)
		}
	}
}

// TestBehindIsByCursor: who has more of one feed may still lack some of another.
func TestBehindIsByCursor(t *testing.T) {
	status := func(a, b uint64) *nodeStatus {
		return &nodeStatus{Partitions: []partition{{Cursors: map[string]uint64{"o": a}}, {Cursors: map[string]uint64{"o": b}}}}
	}
	if n := status(5, 5).beyond(status(3, 9)); n != 2 {
		t.Errorf("%d are missing", n)
	}
	if n := status(5, 5).beyond(status(5, 6)); n != 0 {
		t.Errorf("%d are missing of what is there", n)
	}
	if n := status(5, 5).beyond(&nodeStatus{Partitions: make([]partition, 2)}); n != 10 {
		t.Errorf("%d are missing of all", n)
	}
}
