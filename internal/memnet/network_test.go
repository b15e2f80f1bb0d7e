package memnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	there = 15 * time.Millisecond // beijing to shanghai
	back  = 40 * time.Millisecond // shanghai to beijing
)

// world is two regions; shanghai listens at "s:1".
type world struct {
	*Network
	t      *testing.T
	listen net.Listener
}

// inWorld runs a test in fake time.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		n.SetDelay("beijing", "shanghai", there)
		n.SetDelay("shanghai", "beijing", back)
		l, err := n.Listen("shanghai", "s:1")
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		test(t, &world{n, t, l})
	})
}

// connect dials shanghai from beijing and returns both ends.
func (w *world) connect() (here, far net.Conn) {
	w.t.Helper()
	here, err := w.DialFunc("beijing")(context.Background(), "s:1")
	if err != nil {
		w.t.Fatal(err)
	}
	far, err = w.listen.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	return here, far
}

// read reads n bytes and says how long that took.
func (w *world) read(c net.Conn, n int) (string, time.Duration) {
	w.t.Helper()
	start, b := time.Now(), make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		w.t.Fatal(err)
	}
	return string(b), time.Since(start)
}

func (w *world) write(c net.Conn, s string) {
	w.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		w.t.Error(err)
	}
}

func TestEachDirectionHasItsDelay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		start := time.Now()
		here, far := w.connect()
		if took := time.Since(start); took != there+back {
			t.Errorf("dialing took %v, want a round trip of %v", took, there+back)
		}
		w.write(here, "ping")
		if s, took := w.read(far, 4); s != "ping" || took != there {
			t.Errorf("%q arrived after %v, want %v", s, took, there)
		}
		go w.write(far, "pong")
		if s, took := w.read(here, 4); s != "pong" || took != back {
			t.Errorf("%q arrived after %v, want %v", s, took, back)
		}
	})
}

func TestManyWritesCostOneDelay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, far := w.connect()
		for range 1000 {
			w.write(here, "0123456789")
		}
		if _, took := w.read(far, 10000); took != there {
			t.Errorf("took %v, want %v", took, there)
		}
	})
}

func TestShorterDelayNeverOvertakes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, far := w.connect()
		w.write(here, "a")
		w.SetDelay("beijing", "shanghai", 0)
		w.write(here, "b")
		if s, took := w.read(far, 2); s != "ab" || took != there {
			t.Errorf("%q after %v", s, took)
		}
	})
}

func TestCloseDeliversThenEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, far := w.connect()
		w.write(here, "last words")
		here.Close()
		start := time.Now()
		b, err := io.ReadAll(far)
		if string(b) != "last words" || err != nil || time.Since(start) != there {
			t.Errorf("%q, %v after %v", b, err, time.Since(start))
		}
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading a closed connection: %v", err)
		}
		if _, err := here.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing to a closed connection: %v", err)
		}
	})
}

func TestFarCloseArrivesAfterTheDelay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, far := w.connect()
		go func() {
			io.WriteString(far, "bye")
			far.Close()
		}()
		start := time.Now()
		b, err := io.ReadAll(here)
		if string(b) != "bye" || err != nil || time.Since(start) != back {
			t.Errorf("%q, %v after %v", b, err, time.Since(start))
		}
	})
}

func TestStallHoldsAndHeals(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, far := w.connect()
		w.write(here, "before")
		w.Cut("beijing", "shanghai", Stall)
		w.write(here, "+during")
		go w.write(far, "back")
		if s, took := w.read(here, 4); s != "back" || took != back {
			t.Errorf("the other direction: %q after %v", s, took)
		}
		time.AfterFunc(time.Hour, func() { w.Cut("beijing", "shanghai", Open) })
		if s, took := w.read(far, 13); s != "before+during" || took != time.Hour {
			t.Errorf("%q after %v", s, took)
		}
	})
}

func TestStalledDialWaits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.Cut("shanghai", "beijing", Stall) // the answer to the handshake is what does not come
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := w.DialFunc("beijing")(ctx, "s:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("dial: %v", err)
		}
		time.AfterFunc(time.Minute, func() { w.Cut("shanghai", "beijing", Open) })
		start := time.Now()
		w.connect()
		if took := time.Since(start); took != time.Minute {
			t.Errorf("dial took %v", took)
		}
	})
}

func TestBreakEndsBothSidesAtOnce(t *testing.T) {
	for _, direction := range []pair{{"beijing", "shanghai"}, {"shanghai", "beijing"}} {
		inWorld(t, func(t *testing.T, w *world) {
			here, far := w.connect()
			w.write(here, "lost")
			start := time.Now()
			time.AfterFunc(time.Millisecond, func() { w.Cut(direction.from, direction.to, Break) })
			if _, err := here.Read(make([]byte, 1)); !errors.Is(err, ErrCut) {
				t.Errorf("read: %v", err)
			}
			if b, _ := io.ReadAll(far); len(b) > 0 || time.Since(start) != time.Millisecond {
				t.Errorf("the far side read %q after %v", b, time.Since(start))
			}
			if _, err := w.DialFunc("beijing")(t.Context(), "s:1"); !errors.Is(err, ErrCut) {
				t.Errorf("dial: %v", err)
			}
			w.CutBoth("beijing", "shanghai", Open)
			here, far = w.connect()
			w.write(here, "again")
			if s, _ := w.read(far, 5); s != "again" {
				t.Errorf("after healing: %q", s)
			}
		})
	}
}

func TestBreakSparesOthers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, far := w.connect()
		w.CutBoth("beijing", "guangzhou", Break)
		w.write(here, "fine")
		if s, _ := w.read(far, 4); s != "fine" {
			t.Errorf("%q", s)
		}
	})
}

func TestNoDelayWithinARegion(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.CutBoth("shanghai", "shanghai", Break)
		start := time.Now()
		c, err := w.DialFunc("shanghai")(t.Context(), "s:1")
		if err != nil || time.Since(start) != 0 {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		c.Close()
	})
}

func TestDeadlines(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, far := w.connect()
		start := time.Now()
		here.SetReadDeadline(start.Add(time.Second))
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		var timeout net.Error
		if _, err := here.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("a passed deadline: %v is no timeout", err)
		}
		here.SetReadDeadline(time.Time{})
		go w.write(far, "x")
		if s, _ := w.read(here, 1); s != "x" {
			t.Errorf("after the deadline was taken away: %q", s)
		}
		here.SetDeadline(time.Now())
		synctest.Wait()
		if _, err := here.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
		here.SetReadDeadline(time.Now().Add(time.Second)) // an extended deadline counts from the extension
		time.AfterFunc(500*time.Millisecond, func() { here.SetReadDeadline(time.Now().Add(time.Second)) })
		start = time.Now()
		if _, err := here.Read(make([]byte, 1)); err == nil || time.Since(start) != 1500*time.Millisecond {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
	})
}

func TestFullLaneBlocksTheWriter(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, _ := w.connect()
		w.Cut("beijing", "shanghai", Stall)
		here.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := here.Write(make([]byte, 2*laneBytes))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n < laneBytes || n > laneBytes+segmentBytes {
			t.Errorf("%d bytes were taken, %v", n, err)
		}
	})
}

// TestBytesSurvive sends random pieces both ways while delays change and stalls come and go.
func TestBytesSurvive(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inWorld(t, func(t *testing.T, w *world) {
		here, far := w.connect()
		rnd := rand.New(rand.NewPCG(seed, 1))
		data := make([]byte, 3<<20)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		go func() {
			defer here.Close()
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+rnd.IntN(100_000))
				here.Write(rest[:n])
				rest = rest[n:]
				time.Sleep(time.Duration(rnd.IntN(5)) * time.Millisecond)
			}
		}()
		var weather sync.WaitGroup
		defer weather.Wait()
		weather.Go(func() {
			for i := range 20 {
				w.SetDelay("beijing", "shanghai", time.Duration(i)*time.Millisecond)
				w.Cut("beijing", "shanghai", Cut(i%2)*Stall)
				time.Sleep(10 * time.Millisecond)
			}
			w.Cut("beijing", "shanghai", Open)
		})
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("seed %d: %d of %d bytes, %v, sums %x %x", seed, len(got), len(data), err, sha256.Sum256(got), sha256.Sum256(data))
		}
	})
}

func TestCloseWaitsForAll(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		here, _ := w.connect()
		w.Cut("beijing", "shanghai", Stall)
		w.write(here, "never arrives")
		here.Close() // during the stall: its pumps live on
		w.Close()
		if _, err := w.DialFunc("beijing")(t.Context(), "s:1"); err == nil {
			t.Error("a closed network can be dialed")
		}
		if _, err := w.listen.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
	})
}

func TestListenTwice(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if _, err := w.Listen("shanghai", "s:1"); err == nil {
			t.Error("an address was given out twice")
		}
		w.listen.Close()
		if _, err := w.Listen("shanghai", "s:1"); err != nil {
			t.Errorf("a closed listener's address: %v", err)
		}
	})
}

func TestBadConfig(t *testing.T) {
	if _, err := New(Config{Delay: -1}); err == nil {
		t.Error("a negative delay was accepted")
	}
}

// TestRealSockets is the network as roam dev uses it.
func TestRealSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := New(Config{Delay: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	n.Place("shanghai", l.Addr().String())
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	start := time.Now()
	c, err := n.DialFunc("beijing")(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 4)
	c.Write([]byte("echo"))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "echo" {
		t.Fatalf("%q, %v", b, err)
	}
	if took := time.Since(start); took < 20*time.Millisecond {
		t.Errorf("a dial and an echo took %v, less than two round trips", took)
	}
}
