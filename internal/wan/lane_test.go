package wan

import (
	"math/rand/v2"
	"testing"
	"time"
)

func newTestLane(s Shape) *lane { return &lane{shape: s, dice: rand.New(rand.NewPCG(1, 1))} }

// arrivals takes what arrives until the lane is empty, a tenth of a millisecond at a time.
func arrivals(l *lane, from time.Duration) (at []time.Duration) {
	clock := from
	for len(l.queue) > 0 {
		if _, ok := l.take(clock); ok {
			at = append(at, clock)
		} else {
			clock += 100 * time.Microsecond
		}
	}
	return at
}

func TestLaneDelaysAndKeepsOrder(t *testing.T) {
	l := newTestLane(Shape{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond})
	for i := range 1000 {
		if l.put(time.Duration(i)*time.Millisecond, []byte{byte(i)}) != 1 {
			t.Fatal("a packet is gone")
		}
	}
	var last time.Duration
	for i, f := range l.queue {
		sent := time.Duration(i) * time.Millisecond
		if f.b[0] != byte(i) || f.due < last || f.due < sent+l.shape.Delay || f.due > sent+l.shape.Delay+l.shape.Jitter {
			t.Fatalf("packet %d, sent at %s, is %v due at %s after %s", i, sent, f.b, f.due, last)
		}
		last = f.due
	}
}

func TestLaneOfSomeRate(t *testing.T) {
	l := newTestLane(Shape{Delay: 5 * time.Millisecond, Rate: 1_000_000})
	for range 10 {
		l.put(0, make([]byte, 1000))
	}
	at := arrivals(l, 0)
	for i, got := range at {
		if want := time.Duration(i+1)*time.Millisecond + l.shape.Delay; got < want || got > want+time.Millisecond {
			t.Errorf("packet %d at %s, want %s", i, got, want)
		}
	}
}

func TestLaneIsBounded(t *testing.T) {
	l := newTestLane(Shape{Rate: 1000})
	for range 1000 {
		l.put(0, make([]byte, 1000))
	}
	if l.bytes > l.shape.queue() || l.count.Full == 0 || int(l.count.Full)+len(l.queue) != 1000 {
		t.Errorf("%d bytes in the queue, %+v", l.bytes, l.count)
	}
}

func TestLaneLosesAndDoubles(t *testing.T) {
	l := newTestLane(Shape{Loss: 0.1, Duplicate: 0.05})
	for range 10_000 {
		l.put(0, []byte{1})
	}
	if l.count.Lost < 800 || l.count.Lost > 1200 || l.count.Doubled < 350 || l.count.Doubled > 550 {
		t.Errorf("%+v of 10000", l.count)
	}
	if got := len(arrivals(l, 0)); got != 10_000-int(l.count.Lost)+int(l.count.Doubled) {
		t.Errorf("%d arrived, %+v", got, l.count)
	}
}

func TestLaneCutLosesWhatIsUnderWay(t *testing.T) {
	l := newTestLane(Shape{Delay: time.Second})
	l.put(0, []byte{1})
	l.reshape(Shape{Cut: true})
	l.put(0, []byte{2})
	if b, ok := l.take(2 * time.Second); ok || l.count.Cut != 2 || l.bytes != 0 {
		t.Errorf("%v arrived, %+v", b, l.count)
	}
	l.reshape(Shape{})
	l.put(3*time.Second, []byte{3})
	if b, ok := l.take(3 * time.Second); !ok || b[0] != 3 {
		t.Errorf("%v arrived after the cut", b)
	}
}
