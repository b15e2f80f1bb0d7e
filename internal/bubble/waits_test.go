package bubble

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/memnet"
)

// TestWhoWaitsIsKnown: a user comes to a region that lacks what he has seen, at a node that does not lead. All nodes of the region know that
// his partition is waited for, so that it comes first whoever leads; a minute later, when he has it, it is as all others.
func TestWhoWaitsIsKnown(t *testing.T) {
	inBubble(t, 32, three, func(w *world) {
		first := w.region("beijing").nodes[0] // where clients go; it has led
		first.crash()
		pass(5 * time.Second)
		first.start()
		w.await("beijing is whole again", w.ready)
		d := w.newDevice("alice", "phone", trip, "shanghai")
		d.wait(d.say(), client.Safe)
		if got := w.waited("beijing"); got != "[[] [] []]" {
			t.Errorf("nobody waits, and the nodes say %s", got)
		}
		w.cutBoth("beijing", "shanghai", memnet.Break)
		d.wait(d.say(), client.Stored)
		d.move("beijing")
		w.await("the user is behind", func() bool { return d.live("beijing") && d.s.State().Behind })
		if got := w.waited("beijing"); got != "[[21] [21] [21]]" {
			t.Errorf("one waits for partition 21, and the nodes say %s", got)
		}
		w.cutBoth("beijing", "shanghai", memnet.Open)
		w.await("the user has all", func() bool { return !d.s.State().Behind })
		pass(time.Minute)
		if got := w.waited("beijing"); got != "[[] [] []]" {
			t.Errorf("nobody waits any more, and the nodes say %s", got)
		}
	})
}

// waited is what the nodes of a region say that clients wait for.
func (w *world) waited(region string) string {
	var all [][]int
	for _, n := range w.region(region).nodes {
		st, err := n.status()
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, st.Replication.Waited)
	}
	return fmt.Sprint(all)
}
