package memnet

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// throughLink has a stream go from a to b over a link of some shape, and returns when each byte arrived.
func throughLink(t *testing.T, s Shape, bytes int) (at []time.Duration, c Count) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		l, err := n.Listen("b", "b:1")
		if err != nil {
			t.Fatal(err)
		}
		out, err := n.DialFunc("a")(t.Context(), "b:1")
		if err != nil {
			t.Fatal(err)
		}
		in, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		n.Shape("a", "b", s)
		begun := time.Now()
		for i := range bytes {
			if _, err := out.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range bytes {
			var b [1]byte
			if _, err := io.ReadFull(in, b[:]); err != nil || b[0] != byte(i) {
				t.Fatalf("byte %d is %d: %v", i, b[0], err)
			}
			at = append(at, time.Since(begun))
		}
		c = n.Count("a", "b")
		out.Close()
		in.Close()
	})
	return at, c
}

func TestStreamsOverLossAreWholeAndLate(t *testing.T) {
	at, c := throughLink(t, Shape{Delay: 10 * time.Millisecond, Loss: 0.1}, 200)
	if c.Bytes != 200 || c.Lost == 0 {
		t.Errorf("%+v", c)
	}
	if at[0] < 10*time.Millisecond || at[len(at)-1] < 40*time.Millisecond {
		t.Errorf("the first byte came after %s, the last after %s", at[0], at[len(at)-1])
	}
}

func TestStreamsOfSomeRate(t *testing.T) {
	at, _ := throughLink(t, Shape{Delay: 10 * time.Millisecond, Rate: 100}, 50)
	for i, got := range at {
		if want := time.Duration(i+1)*10*time.Millisecond + 10*time.Millisecond; got < want-time.Millisecond || got > want+time.Millisecond {
			t.Errorf("byte %d came after %s, want %s", i, got, want)
		}
	}
}

func TestJitterKeepsStreamsInOrder(t *testing.T) {
	at, _ := throughLink(t, Shape{Delay: 10 * time.Millisecond, Jitter: 20 * time.Millisecond}, 100)
	if last := at[len(at)-1]; last > 30*time.Millisecond || at[0] < 10*time.Millisecond {
		t.Errorf("from %s to %s", at[0], last)
	}
}

func TestPacketsAreLostAndDoubled(t *testing.T) {
	l := newLink(time.Millisecond)
	l.shape.Loss, l.shape.Duplicate = 0.2, 0.1
	arrived := 0
	for range 10_000 {
		arrived += len(l.packet(time.Now(), 1))
	}
	if c := l.count; c.Lost < 1700 || c.Lost > 2300 || c.Doubled < 600 || c.Doubled > 1000 || arrived != 10_000-int(c.Lost)+int(c.Doubled) {
		t.Errorf("%d arrived, %+v", arrived, c)
	}
}
