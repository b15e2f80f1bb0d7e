package region

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestStallIsWhatTakesLong: what is done in time is no stall; what is not is one, once.
func TestStallIsWhatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := 0
		s := newStallTimer(2*time.Second, func() { late++ })
		time.Sleep(1900 * time.Millisecond)
		s.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if late != 0 {
			t.Error("what took 1.9 s counts as a stall of 2 s")
		}
		newStallTimer(2*time.Second, func() { late++ })
		time.Sleep(time.Minute)
		synctest.Wait()
		if late != 1 {
			t.Errorf("a stall was told %d times", late)
		}
	})
}

// TestStallNeedsAllLooks: a process that was stopped finds, when it goes on, that one look is due, whatever the time is. It takes all of
// them to call it a stall.
func TestStallNeedsAllLooks(t *testing.T) {
	late := false
	s := &stallTimer{every: time.Hour, late: func() { late = true }}
	s.timer = time.AfterFunc(time.Hour, s.look)
	for range stallLooks - 1 {
		s.look()
	}
	s.stop()
	if late {
		t.Error("it was told before all looks were over")
	}
}
