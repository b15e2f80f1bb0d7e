package bubble

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/memnet"
)

const (
	// losses is how many nodes TestLosingANode takes away, one at a time.
	losses = 40
	// stutter is how long no client may be without service, whatever happens to one node at a time.
	stutter = 2 * time.Second
)

// TestLosingANode has clients put at all nodes of a region of three, while one node after the other crashes, freezes, is restarted or loses its disk, each as soon as
// the region is whole again. Nothing takes time here but time-outs: so the longest wait of any client is what they add up to.
func TestLosingANode(t *testing.T) {
	for _, seed := range []uint64{6, 7} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, seed, plan{{"beijing", 3}}, func(w *world) {
				region := w.region("beijing")
				end := w.talkAll(region, 9)
				done := map[string]int{}
				for range losses {
					n := region.nodes[w.rng.IntN(3)]
					done[n.lose()]++
					w.await("beijing is whole again", region.whole)
				}
				waits := end()
				longest := waits[len(waits)-1]
				t.Logf("%v; of %d puts the longest took %v, 1 in 1000 %v, 1 in 100 %v, the one in the middle %v", done, len(waits), longest,
					waits[len(waits)*999/1000], waits[len(waits)*99/100], waits[len(waits)/2])
				if longest > stutter {
					t.Errorf("a client was without service for %v", longest)
				}
			})
		})
	}
}

// lose takes the node away and brings it back, and says how.
func (n *node) lose() (how string) {
	switch n.w.rng.IntN(4) {
	case 0:
		n.crash()
		how = "crashes"
	case 1:
		n.freeze(memnet.Stall)
		pass(time.Duration(1+n.w.rng.IntN(4000))*time.Millisecond + time.Second)
		n.freeze(memnet.Open)
		return "freezes"
	case 2:
		n.stop()
		how = "restarts"
	default:
		n.crash()
		n.disk = newDisk()
		how = "disks lost"
	}
	n.start()
	return how
}

// freeze has nothing reach the node or come from it, and everything later: as a stopped process looks from outside.
func (n *node) freeze(c memnet.Cut) {
	n.alone(c)
	for _, d := range n.w.devices {
		n.w.net.CutBoth(d.place, n.place, c)
	}
}

// whole reports whether all nodes serve, one of them leads, and all vote.
func (s *site) whole() bool {
	leads := 0
	for _, n := range s.nodes {
		st, err := n.status()
		if err != nil || !st.Ready {
			return false
		}
		if st.Raft.Leads {
			leads++
		}
		votes := 0
		for _, other := range st.Raft.Nodes {
			if strings.Contains("voter leader", other.Role) {
				votes++
			}
		}
		if votes != len(s.nodes) || len(st.Raft.Nodes) != len(s.nodes) {
			return false
		}
	}
	return leads == 1
}

// talkAll has clients put until end, which returns how long each put took, the longest last. They begin at all nodes alike.
func (w *world) talkAll(s *site, clients int) (end func() []time.Duration) {
	var stop atomic.Bool
	var talking sync.WaitGroup
	each := make([][]time.Duration, clients)
	for i := range clients {
		g := client.Region{Name: s.name}
		for k := range s.nodes {
			g.URLs = append(g.URLs, s.nodes[(i+k)%len(s.nodes)].url())
		}
		g.URL = g.URLs[0]
		d := w.newDeviceOf("alice", fmt.Sprintf("d%d", i), fmt.Sprintf("alice/%d", i), []client.Region{g})
		talking.Go(func() {
			for !stop.Load() {
				begun := time.Now()
				d.wait(d.say(), client.Stored)
				each[i] = append(each[i], time.Since(begun))
				pass(time.Duration(20+7*i) * time.Millisecond)
			}
		})
	}
	return func() []time.Duration {
		stop.Store(true)
		talking.Wait()
		return slices.Sorted(slices.Values(slices.Concat(each...)))
	}
}
