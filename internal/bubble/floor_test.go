package bubble

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/memnet"
)

// together are sessions of one partition.
var together = []string{"alice/32", "alice/140", "alice/258", "alice/364", "alice/372", "alice/423"}

// TestAwayForLongerThanFeedsAreKept: a region comes back when what it lacks is not kept as records any more. It takes the sessions
// as a whole, in many parts, and is cut off and loses power in the middle, while clients write on both sides.
func TestAwayForLongerThanFeedsAreKept(t *testing.T) {
	inBubble(t, 6, two, func(w *world) {
		var north []*device
		for i, session := range together {
			north = append(north, w.newDevice("alice", fmt.Sprintf("phone%d", i), session, "beijing"))
		}
		south := w.newDevice("alice", "laptop", north[0].session, "shanghai")
		south.wait(south.say(), client.Safe)
		w.cutBoth("beijing", "shanghai", memnet.Break)
		for i := range 8 {
			for _, d := range north {
				d.put(strings.Repeat(fmt.Sprintf("%s %d ", d.name, i), 20_000), false) // over 1 MiB a session: it goes in pieces
				d.wait(d.say(), client.Stored)
			}
			south.wait(south.say(), client.Stored)
		}
		w.await("beijing has dropped records", func() bool { return w.floors("beijing") > 0 })
		w.cutInTransfer(memnet.Break)
		w.cutBoth("beijing", "shanghai", memnet.Open)
		w.await("a transfer has come on", func() bool { return w.transferred("shanghai") > 2 })
		node := w.region("shanghai").nodes[0]
		node.crash()
		north[1].wait(north[1].say(), client.Stored)
		node.start()
		w.await("shanghai is back", w.ready)
		north[0].wait(north[0].say(), client.Safe)
		south.wait(south.say(), client.Safe)
		w.await("shanghai has no records of what it took as a whole", func() bool { return w.floors("shanghai") > 0 })
	})
}

// cutInTransfer opens the way between the regions until a transfer is under way, and cuts it again.
func (w *world) cutInTransfer(c memnet.Cut) {
	w.t.Helper()
	w.cutBoth("beijing", "shanghai", memnet.Open)
	w.await("a transfer has begun", func() bool { return w.transferred("shanghai") > 0 })
	w.cutBoth("beijing", "shanghai", c)
	pass(5 * time.Second)
	if w.transferred("shanghai") == 0 {
		w.t.Error("the transfer was over before it was cut")
	}
}

// floors counts the feeds of a region that have lost their oldest records.
func (w *world) floors(region string) (n int) {
	if st, err := w.region(region).nodes[0].status(); err == nil {
		for _, of := range st.Raft.Floors {
			n += len(of)
		}
	}
	return n
}

// transferred counts the sessions that have come in the transfers to a region that are under way.
func (w *world) transferred(region string) (n uint64) {
	if st, err := w.region(region).nodes[0].status(); err == nil {
		for _, tr := range st.Raft.Transfers {
			n += tr.Sessions
		}
	}
	return n
}
