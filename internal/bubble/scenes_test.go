package bubble

import (
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/memnet"
)

var (
	two   = plan{{"beijing", 1}, {"shanghai", 1}}
	three = plan{{"beijing", 3}, {"shanghai", 1}}
)

const trip = "alice/trip"

// TestMovesInMidAnswer: a conversation goes on in another region while an answer is being made, and every byte comes once.
func TestMovesInMidAnswer(t *testing.T) {
	inBubble(t, 1, two, func(w *world) {
		d := w.newDevice("alice", "phone", trip, "beijing")
		w.newDevice("alice", "laptop", trip, "shanghai")
		q := d.ask(100)
		w.await("the answer has begun", func() bool {
			runs := d.s.State().Answers(q.OID())
			return len(runs) == 1 && len(runs[0].Text) > 20
		})
		d.move("shanghai")
		w.await("it goes on in shanghai", func() bool { return d.live("shanghai") })
		if run := d.s.State().Answers(q.OID())[0]; run.Closed() {
			t.Error("the answer was over before the move was")
		}
		d.wait(d.say(), client.Safe)
	})
}

// TestCutOfMinutes: two regions are apart for longer than membership remembers the dead, go on by themselves, and meet again
// without anybody's help.
func TestCutOfMinutes(t *testing.T) {
	for name, c := range map[string]memnet.Cut{"stall": memnet.Stall, "break": memnet.Break} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, two, func(w *world) {
				north := w.newDevice("alice", "phone", trip, "beijing")
				south := w.newDevice("alice", "laptop", trip, "shanghai")
				north.wait(north.say(), client.Safe)
				w.cutBoth("beijing", "shanghai", c)
				for range 20 {
					for _, d := range []*device{north, south} {
						d.wait(d.say(), client.Stored)
						d.wait(d.ask(5), client.Stored)
						d.wait(d.set("title"), client.Stored)
					}
					pass(10 * time.Second)
				}
				if len(south.s.State().Outbox) == 0 {
					t.Error("all is called safe in a cut")
				}
				w.cutBoth("beijing", "shanghai", memnet.Open)
				w.await("all is safe", func() bool { return north.unsettled() == "" && south.unsettled() == "" })
			})
		})
	}
}

// TestLeaderCrashes: the leader of a region of three loses power under load, twice, and comes back with what it had
// synced.
func TestLeaderCrashes(t *testing.T) {
	inBubble(t, 3, three, func(w *world) {
		var all []*device
		for _, name := range []string{"phone", "laptop", "tablet"} {
			all = append(all, w.newDevice("alice", name, trip, "beijing"))
		}
		region := w.region("beijing")
		for round := range 2 {
			leader := region.leader()
			if leader == nil {
				t.Fatal("beijing has no leader")
			}
			var last *client.Receipt
			for i := range 20 {
				for _, d := range all {
					last = d.say()
				}
				all[i%3].ask(10)
				pass(20 * time.Millisecond)
				if i == 10+round {
					leader.crash()
				}
			}
			all[2].wait(last, client.Stored)
			leader.start()
			w.await("all nodes of beijing serve", w.ready)
		}
	})
}

// TestRegionCrashes: a region of one node loses power under load. Its clients go on elsewhere; it comes back with what it had
// acknowledged, and numbers on under another incarnation.
func TestRegionCrashes(t *testing.T) {
	inBubble(t, 4, two, func(w *world) {
		d := w.newDevice("alice", "phone", trip, "beijing")
		w.newDevice("alice", "laptop", trip, "shanghai")
		d.wait(d.say(), client.Safe)
		node := w.region("beijing").nodes[0]
		before := node.incarnation()
		w.cutBoth("beijing", "shanghai", memnet.Stall)
		for range 20 {
			d.wait(d.say(), client.Stored)
		}
		d.ask(50)
		pass(100 * time.Millisecond)
		node.crash()
		w.await("the phone is in shanghai", func() bool { return d.live("shanghai") })
		d.wait(d.say(), client.Stored)
		node.start()
		w.await("beijing is back", w.ready)
		if after := node.incarnation(); after == before {
			t.Errorf("after a loss of power it goes on as %s", after)
		}
		w.cutBoth("beijing", "shanghai", memnet.Open)
	})
}

// TestAcknowledgedStays: what was acknowledged needs neither the client that put it nor another region to survive a loss of power.
func TestAcknowledgedStays(t *testing.T) { inBubble(t, 5, two, phoneInTheLake) }

// phoneInTheLake is a client that never comes back, after a region alone has acknowledged what it put, and before power fails.
func phoneInTheLake(w *world) {
	d := w.newDevice("alice", "phone", trip, "beijing")
	w.newDevice("alice", "laptop", trip, "shanghai")
	d.wait(d.say(), client.Safe)
	w.cutBoth("beijing", "shanghai", memnet.Stall)
	for range 10 {
		d.wait(d.say(), client.Stored)
	}
	d.wait(d.ask(20), client.Stored)
	d.lose()
	w.region("beijing").nodes[0].crash()
}
