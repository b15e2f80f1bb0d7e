package bubble

import (
	"strconv"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/memnet"
)

// TestClockThatIsWrong: a region whose machine is minutes off stamps as the others do, so that of two who do not know of each other the
// one who wrote later wins; its answers go on meanwhile.
func TestClockThatIsWrong(t *testing.T) {
	for _, off := range []time.Duration{90 * time.Second, -90 * time.Second} {
		t.Run(off.String(), func(t *testing.T) {
			report(t, brokenIn(t, 31, plan{{"beijing", 1}, {"shanghai", 1}, {"guangzhou", 1}},
				func(w *world) { w.region("beijing").nodes[0].opts.ClockOffset = off },
				func(w *world) { edited(w) }))
		})
	}
}

func edited(w *world) {
	pass(30 * time.Second) // the nodes have heard each other
	north, south := w.newDevice("alice", "phone", trip, "beijing"), w.newDevice("alice", "laptop", trip, "shanghai")
	q := north.ask(20)
	w.await("the answer is whole", func() bool {
		runs := north.s.State().Answers(q.OID())
		return len(runs) == 1 && runs[0].Closed()
	})
	for range 4 {
		w.cutBoth("beijing", "shanghai", memnet.Stall)
		w.cutBoth("beijing", "guangzhou", memnet.Stall)
		first, second := north, south
		if w.rng.IntN(2) == 0 {
			first, second = south, north
		}
		first.wait(first.set("title"), client.Stored)
		pass(2 * time.Second)
		second.wait(second.set("title"), client.Stored)
		want := second.s.State().Map["title"]
		w.cutBoth("beijing", "shanghai", memnet.Open)
		w.cutBoth("beijing", "guangzhou", memnet.Open)
		shows := func(d *device) bool { return string(d.s.State().Map["title"].JSON) == string(want.JSON) }
		w.await("both show what was written 2 s after the other", func() bool { return shows(north) && shows(south) })
		ms, err := strconv.ParseInt(want.HLC[:12], 16, 64) // and a counter, and the origin
		if at := time.UnixMilli(ms); err != nil || time.Since(at).Abs() > time.Minute {
			w.t.Errorf("%s is stamped %s at %s (%v)", want.JSON, at, time.Now(), err)
		}
	}
}
