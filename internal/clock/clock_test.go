package clock

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestMedian(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		others []time.Duration
		want   time.Duration
	}{
		{nil, 0},
		{[]time.Duration{-90 * s}, -90 * s},          // of two the one that is ahead gives way
		{[]time.Duration{90 * s}, 0},                 // and the other does not
		{[]time.Duration{-90 * s, -89 * s}, -89 * s}, // two of three agree
		{[]time.Duration{90 * s, 91 * s}, 90 * s},
		{[]time.Duration{0, 90 * s}, 0},
		{[]time.Duration{0, -90 * s}, 0},
		{[]time.Duration{-90 * s, 90 * s}, 0},
		{[]time.Duration{-90 * s, -90 * s, 0, 0}, 0},
	} {
		if got := median(c.others); got != c.want {
			t.Errorf("median of %v and 0: %v, want %v", c.others, got, c.want)
		}
	}
}

func TestCorrect(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct{ was, off, want time.Duration }{
		{0, 500 * ms, 0}, {0, -500 * ms, 0}, {0, 501 * ms, 501 * ms}, {0, -501 * ms, -501 * ms},
		{600 * ms, 650 * ms, 600 * ms}, {600 * ms, 701 * ms, 701 * ms}, // it does not follow every measurement
		{600 * ms, 400 * ms, 400 * ms}, {600 * ms, 250 * ms, 0}, {-600 * ms, 0, 0}, // and does not go back and forth at the limit
	} {
		if got := correct(c.was, c.off); got != c.want {
			t.Errorf("corrected by %v and off by %v: %v, want %v", c.was, c.off, got, c.want)
		}
	}
}

// nodes are machines of which each asks each other's clock once a second.
type nodes []*Clock

func newNodes(offsets ...time.Duration) (all nodes) {
	for _, off := range offsets {
		all = append(all, New(Config{Machine: func() time.Time { return time.Now().Add(off) }}))
	}
	return all
}

func (n nodes) pass(seconds int) {
	for range seconds {
		for _, c := range n {
			for i, other := range n {
				if c != other {
					showed := other.Machine()
					time.Sleep(30 * time.Millisecond)
					c.Heard(fmt.Sprint(i), showed, 60*time.Millisecond)
				}
			}
		}
		time.Sleep(time.Second)
	}
}

func TestTheOneThatIsWrongIsSetRight(t *testing.T) {
	for _, wrong := range []time.Duration{90 * time.Second, -90 * time.Second, time.Hour, 600 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			n := newNodes(wrong, 50*time.Millisecond, -50*time.Millisecond)
			n.pass(5)
			if n[0].Now() != n[0].Machine() {
				t.Error("it is set right before it has heard the others for long")
			}
			n.pass(20)
			for i, c := range n {
				if off := time.Until(c.Now()); off.Abs() > limit {
					t.Errorf("one is off by %s: clock %d still by %s", wrong, i, off)
				}
				if s := c.Status(); (s.Correction != 0) != (i == 0) {
					t.Errorf("one is off by %s: clock %d is corrected by %s", wrong, i, s.Correction)
				}
			}
		})
	}
}

func TestClockThatWasSetIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off := 90 * time.Second
		n := append(newNodes(0, 0), New(Config{Machine: func() time.Time { return time.Now().Add(off) }}))
		n.pass(20)
		if c := n[2].Status().Correction; c > -89*time.Second {
			t.Fatalf("corrected by %s", c)
		}
		off = 0
		n.pass(3)
		if c := n[2].Status().Correction; c != 0 {
			t.Errorf("still corrected by %s", c)
		}
	})
}

// TestDeadAreForgotten: who is not heard any more does not decide.
func TestDeadAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNodes(0, -90*time.Second, -90*time.Second, 0, 0)
		n.pass(20)
		nodes{n[0], n[3], n[4]}.pass(1)
		time.Sleep(fresh)
		c := n[0]
		c.Heard("0", time.Now(), 0)
		if s := c.Status(); s.Nodes != 1 || s.Correction != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSlowWaysAndCrowdsAreRefused(t *testing.T) {
	c := New(Config{Machine: time.Now})
	c.Heard("slow", time.Now(), maxTrip+1)
	c.Heard("back", time.Now(), -1)
	if c.Status().Nodes != 0 {
		t.Error("taken")
	}
	for i := range maxPeers + 1 {
		c.Heard(fmt.Sprint(i), time.Now(), 0)
	}
	if c.Status().Nodes != maxPeers {
		t.Errorf("%d nodes are remembered", c.Status().Nodes)
	}
}

// TestAfterSilence: of a node that has heard nobody for long, the first that it hears again is not most.
func TestAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNodes(0, 0, -time.Hour)
		n.pass(20)
		time.Sleep(fresh + time.Second)
		for range 5 {
			n[0].Heard("2", n[2].Machine(), 0)
			time.Sleep(time.Second)
		}
		if s := n[0].Status(); s.Correction != 0 {
			t.Errorf("it is corrected by %s", s.Correction)
		}
		n.pass(20)
		if s := n[0].Status(); s.Correction != 0 || n[2].Status().Correction == 0 {
			t.Errorf("it is corrected by %s", s.Correction)
		}
	})
}
