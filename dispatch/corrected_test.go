package dispatch_test

import (
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// corrections are by how much a region's clock is ahead before it is set right.
var corrections = map[string]time.Duration{"back": time.Minute, "on": -time.Minute}

// TestLostJobWhenTheClockIsCorrected: a job that was lost is missed as soon as ever, although the region's clock is set right meanwhile.
func TestLostJobWhenTheClockIsCorrected(t *testing.T) {
	for name, ahead := range corrections {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			defer s.close()
			s.ahead = ahead
			hangs := s.hire()
			s.pass(2 * time.Second)
			s.hands = nil
			run := s.ask("u/a", "m1", prompt, "echo")[0]
			s.pass(time.Second)
			hangs.Close()
			s.mini.FlushAll()
			s.ahead = 0
			s.hire()
			since := s.clock
			s.until("the answer", func() bool { return s.slot("u/a", run).State.Closed() })
			s.awaitAnswer("u/a", run, answer)
			if took := s.clock.Sub(since); took > 5*time.Second {
				t.Errorf("it takes %s", took)
			}
		})
	}
}

// TestUnservedWhenTheClockIsCorrected: a model that no worker serves is waited for as long as ever.
func TestUnservedWhenTheClockIsCorrected(t *testing.T) {
	for name, ahead := range corrections {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			defer s.close()
			s.ahead = ahead
			s.hire()
			s.pass(2 * time.Second)
			run, since := s.ask("u/a", "m1", prompt, "nobody's")[0], s.clock
			s.pass(time.Second)
			s.ahead = 0
			s.until("the end", func() bool { return s.slot("u/a", run).State == crdt.RunFailed })
			if took := s.clock.Sub(since); took < 5*time.Second || took > 6*time.Second {
				t.Errorf("it takes %s", took)
			}
		})
	}
}
