package bubble

import (
	"slices"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
)

const (
	// elections is how many leaders TestNextLeader takes away, and leaderless how long a region may be without one.
	elections  = 40
	leaderless = 900 * time.Millisecond
)

// TestNextLeader: the leader of a region of three loses power, again and again, at any moment of its followers' time. How long it takes until the region has
// another one depends on time-outs alone here, since nothing takes time on the machine of a bubble.
func TestNextLeader(t *testing.T) {
	inBubble(t, 5, three, func(w *world) {
		d := w.newDevice("alice", "phone", trip, "beijing")
		region := w.region("beijing")
		var took []time.Duration
		for round := range elections {
			leader := region.leader()
			d.wait(d.say(), client.Stored)
			pass(time.Duration(round*37%500) * time.Millisecond)
			d.say()
			leader.crash()
			begun := time.Now()
			for region.leader() == nil {
				pass(5 * time.Millisecond)
			}
			took = append(took, time.Since(begun))
			leader.start()
			w.await("all nodes of beijing serve", w.ready)
		}
		slices.Sort(took)
		t.Logf("without a leader: %v at the least, %v in the middle, %v at the most", took[0], took[len(took)/2], took[len(took)-1])
		if most := took[len(took)-1]; most > leaderless {
			t.Errorf("a region was without a leader for %v", most)
		}
	})
}
