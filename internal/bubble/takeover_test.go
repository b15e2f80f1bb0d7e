package bubble

import (
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
)

// TestTakeOver: the region that answers loses power in mid-answer and stays away, and its user goes on in another one of three nodes, where
// only a node that does not lead knows of it. The answer is made there, once, soon after it is known that nothing will come. Then
// the region comes back.
func TestTakeOver(t *testing.T) {
	inBubble(t, 60, plan{{"beijing", 1}, {"shanghai", 3}}, func(w *world) {
		d := w.newDevice("alice", "phone", trip, "beijing")
		q := d.ask(200)
		d.wait(q, client.Safe)
		w.await("shanghai has some of the answer", func() bool {
			runs := d.s.State().Answers(q.OID())
			return len(runs) == 1 && len(runs[0].Text) > 50
		})
		pass(100 * time.Millisecond)
		d.wait(d.ask(5), client.Safe) // waits until the first is answered
		beijing := w.region("beijing").nodes[0]
		beijing.crash()
		since := time.Now()
		w.await("the phone is in shanghai", func() bool { return d.live("shanghai") })
		if st := d.s.State(); st.Answers(q.OID())[0].Closed() {
			t.Fatal("the answer was over before its region went")
		}
		w.await("the answer is made there", func() bool {
			for _, e := range d.s.State().Log {
				if e.Kind == client.KindAnswer && !e.Closed() {
					return false
				}
			}
			return true
		})
		// 200 words take 4 s; that the region is gone, and that somebody waits, is noticed at the next look.
		if took := time.Since(since); took > takeover+15*time.Second {
			t.Errorf("it was made %s after the region had gone", took)
		}
		runs := d.s.State().Answers(q.OID())
		if len(runs) != 1 || runs[0].Status != "done" || strings.Count(runs[0].Text, "w199") != 1 || !strings.HasPrefix(runs[0].Text, "ask phone 1 w0 ") {
			t.Errorf("%d answers: %+v", len(runs), runs)
		}
		beijing.start()
		w.await("beijing is back", w.ready)
		pass(10 * time.Second)
		if again := d.s.State().Answers(q.OID()); len(again) != 1 || again[0].Text != runs[0].Text {
			t.Errorf("then there are %+v", again)
		}
	})
}

// TestNotTakenOver: a region that nobody follows from elsewhere brings its answer itself when it is back; and one that restarts within the time.
func TestNotTakenOver(t *testing.T) {
	inBubble(t, 61, two, func(w *world) {
		d := w.newDevice("alice", "phone", trip, "beijing")
		q := d.ask(100)
		d.wait(q, client.Safe)
		d.lose()
		node := w.region("beijing").nodes[0]
		node.crash()
		pass(3 * takeover)
		other := w.newDevice("alice", "laptop", trip, "shanghai")
		w.await("shanghai has the question", func() bool { return len(other.s.State().Answers(q.OID())) == 1 })
		if run := other.s.State().Answers(q.OID())[0]; run.Closed() {
			t.Error("an answer was made that nobody waited for")
		}
		other.lose()
		node.start()
		w.await("beijing is back", w.ready)
	})
}
