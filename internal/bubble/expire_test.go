package bubble

import (
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/memnet"
)

// removedTTL is for how long ids of what was removed are known where they are forgotten.
const removedTTL = 5 * time.Minute

// TestRemovedIsForgotten: what was removed is a duplicate when it is put again, for its time, and as long as regions do not hear each other; then it is
// a new message, in both. Regions that have forgotten it are level.
func TestRemovedIsForgotten(t *testing.T) {
	report(t, brokenIn(t, 72, two, func(w *world) {
		for _, s := range w.regions {
			for _, n := range s.nodes {
				n.opts.RemovedTTL = removedTTL
			}
		}
	}, func(w *world) {
		d := w.newDevice("alice", "phone", trip, "beijing")
		said := d.say()
		d.wait(said, client.Safe)
		forgets, err := d.s.Forget()
		if err != nil {
			t.Fatal(err)
		}
		d.wait(forgets, client.Safe)
		again := func() int {
			for _, s := range w.regions {
				if got := s.nodes[0].putRaw("alice", trip, said.OID(), "phone says 1"); !strings.Contains(got, `"t":"ok"`) {
					t.Errorf("put again in %s: %s", s.name, got)
				}
			}
			pass(time.Second)
			return len(d.s.State().Log)
		}
		pass(removedTTL / 2)
		if again() != 0 {
			t.Error("put again before its time, it is shown")
		}
		w.cutBoth("beijing", "shanghai", memnet.Stall)
		pass(2 * removedTTL)
		if again() != 0 {
			t.Error("forgotten while nobody knows what the other region has")
		}
		w.cutBoth("beijing", "shanghai", memnet.Open)
		pass(time.Minute)
		if again() != 1 {
			t.Error("it is never forgotten")
		}
		w.forgotten(trip)
	}))
}
