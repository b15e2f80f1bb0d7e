package gateway

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSilence: it is over after the limit, and a look more at most; not while something is heard, nor after it was stopped.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, over := time.Now(), make(chan time.Time, 2)
		s := newSilence(time.Second, func() { over <- time.Now() })
		for range 100 {
			time.Sleep(900 * time.Millisecond)
			s.heard()
		}
		if took := (<-over).Sub(begun.Add(90 * time.Second)); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("it was over %v after something was heard", took)
		}
		s.stop()
		stopped := newSilence(time.Second, func() { over <- time.Now() })
		stopped.stop()
		time.Sleep(time.Minute)
		if len(over) != 0 {
			t.Error("it was over twice, or after it was stopped")
		}
	})
}

// TestAStopIsNoSilence: after a stop of this process its timers are late all at once. Nobody else was silent for that.
func TestAStopIsNoSilence(t *testing.T) {
	s := newSilence(time.Hour, func() { t.Error("one late look is taken for silence") })
	defer s.stop()
	for range silenceLooks - 1 {
		s.look()
	}
	s.look() // a stop in the last moment
	s.heard()
	s.look()
}
