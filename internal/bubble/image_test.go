package bubble

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/memnet"
)

// images is how many seeds TestDisksGoBack runs.
func images(t *testing.T) int {
	t.Helper()
	s := os.Getenv("BUBBLE_IMAGES")
	if s == "" {
		return 3
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDisksGoBack: of three nodes one lags, the disk of another is put back, and the third, which has the rest, is gone for a while, or for good: in
// turns, each time others, and now and then while the region is cut off. No number has two contents: feeds go on everywhere, and all copies are
// equal in the end.
func TestDisksGoBack(t *testing.T) {
	for seed := range images(t) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, uint64(seed), three, func(w *world) {
				d := w.newDevice("alice", "phone", trip, "beijing")
				d.wait(d.say(), client.Safe)
				for range 3 {
					goBack(w, d)
				}
			})
		})
	}
}

// goBack is one turn. What is under way is answered before anything breaks.
func goBack(w *world, d *device) {
	nodes := append([]*node{}, w.region("beijing").nodes...)
	w.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	back, lags, rest := nodes[0], nodes[1], nodes[2]
	d.move("beijing")
	pass(5 * time.Second) // until all three vote
	d.wait(d.say(), client.Stored)
	image := back.disk.crash(w.rng)
	talk(w, d, 5)
	if w.rng.IntN(2) == 0 {
		w.cutBoth("beijing", "shanghai", memnet.Break)
	}
	lags.crash()
	talk(w, d, 1+w.rng.IntN(8))
	if w.rng.IntN(4) == 0 {
		rest.stop()
	}
	back.crash()
	rest.crash()
	back.disk = image
	lags.start()
	back.start()
	w.await("the two go on", func() bool { return back.serves() && lags.serves() })
	talk(w, d, 1+w.rng.IntN(8))
	w.cutBoth("beijing", "shanghai", memnet.Open)
	rest.astray.Store(true)
	rest.start()
	w.await("the third is back", func() bool {
		if l := rest.life; l != nil && l.over.Load() {
			rest.crash()
			rest.start()
		}
		return rest.serves()
	})
	rest.astray.Store(false)
	w.await("all is safe", func() bool { return d.unsettled() == "" })
}

func talk(w *world, d *device, n int) {
	for range n {
		d.wait(d.say(), client.Stored)
		pass(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	}
	pass(time.Second)
}
