package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, c *Client) *Session {
	t.Helper()
	s, err := c.Session(modelID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLifecycle(t *testing.T) {
	srv := newServer("beijing", "shanghai")
	defer srv.close()
	c, stop := run(t, Config{Regions: srv.regions(), Device: "phone"})
	s := open(t, c)
	r, err := s.Send("to be or not to be", SendOptions{Ask: true})
	if err != nil {
		t.Fatal(err)
	}
	st := until(t, s, "answer", func(st State) bool {
		return len(st.Log) == 2 && st.Log[1].Closed() && len(st.Outbox) == 0
	})
	if e := st.Log[1]; e.Text != "to be or not to be" || e.Of != r.OID() || st.Region != "beijing" {
		t.Fatalf("answer %+v in %q", e, st.Region)
	}
	if stage, why := r.Stage(); stage != Safe || why != nil {
		t.Fatalf("stage %v, %v", stage, why)
	}
	if err := c.Move("shanghai"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Set("title", "a play"); err != nil {
		t.Fatal(err)
	}
	st = until(t, s, "move", func(st State) bool { return st.Region == "shanghai" && len(st.Outbox) == 0 })
	if string(st.Map["title"].JSON) != `"a play"` || len(st.Log) != 2 {
		t.Fatalf("after the move: %+v", st)
	}
	if err := stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if c.Status().Connected || s.State().Live {
		t.Fatal("still connected after Run")
	}
}

func TestCutPutsAgain(t *testing.T) {
	srv := newServer("beijing", "shanghai")
	defer srv.close()
	c, _ := run(t, Config{Regions: srv.regions(), Dice: func() float64 { return 0.01 }})
	s := open(t, c)
	until(t, s, "connection", func(st State) bool { return st.Live })
	for i := range 20 {
		if i%3 == 0 {
			c.Cut()
		}
		if i%7 == 0 {
			_ = c.Move([]string{"beijing", "shanghai"}[i%2])
		}
		if _, err := s.Send(fmt.Sprint("message ", i), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	st := until(t, s, "all safe", func(st State) bool { return len(st.Outbox) == 0 })
	for i, e := range st.Log {
		if want := fmt.Sprint("message ", i); e.Text != want {
			t.Fatalf("entry %d is %q, not %q", i, e.Text, want)
		}
	}
	if len(st.Log) != 20 {
		t.Fatalf("%d entries", len(st.Log))
	}
}

func TestFatalClose(t *testing.T) {
	srv := newServer("beijing")
	defer srv.close()
	srv.greet = func(string) (int, string) { return 4500, "bad token" }
	c, err := New(Config{Regions: srv.regions(), Token: func(context.Context) (string, error) { return "x", nil }})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Run(context.Background())
	var why *Refusal
	if !errors.As(err, &why) || why.Code != "unauthorized" || websocket.CloseStatus(err) != 4500 {
		t.Fatalf("Run: %v", err)
	}
	if err := c.Run(context.Background()); !errors.Is(err, ErrRunning) {
		t.Fatalf("second Run: %v", err)
	}
}

func TestNextRegionAfterTwoFailures(t *testing.T) {
	srv := newServer("beijing", "shanghai")
	defer srv.close()
	srv.greet = func(region string) (int, string) {
		if region == "beijing" {
			return 4001, "go away"
		}
		return 0, ""
	}
	c, _ := run(t, Config{Regions: srv.regions(), Dice: func() float64 { return 0.01 }})
	until(t, open(t, c), "shanghai", func(st State) bool { return st.Region == "shanghai" })
}

// pipe is a Conn to nowhere that is read and written by a test.
type pipe struct {
	in     chan []byte
	out    chan []byte
	closed chan struct{}

	url     string
	goodbye time.Duration // how long the other side takes to answer one
}

func newPipe() *pipe {
	return &pipe{in: make(chan []byte, 64), out: make(chan []byte, 64), closed: make(chan struct{})}
}

func (p *pipe) Read(ctx context.Context) ([]byte, error) {
	select {
	case b := <-p.in:
		return b, nil
	case <-p.closed:
		return nil, errors.New("closed")
	}
}

func (p *pipe) Write(ctx context.Context, b []byte) error { p.out <- b; return nil }

func (p *pipe) Close(code int, _ string) error {
	if code != 0 {
		time.Sleep(p.goodbye)
	}
	close(p.closed)
	return nil
}

func (p *pipe) send(f any) { p.in <- encodeFrames([]any{f}) }

// inBubble runs a client in fake time; every connection it makes comes to the test.
func inBubble(t *testing.T, cfg Config, test func(c *Client, conns <-chan *pipe)) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan *pipe, 64)
		cfg.Regions = []Region{{Name: "a", URL: "ws://a/"}, {Name: "b", URL: "ws://b/"}}
		cfg.Dial = func(context.Context, string) (Conn, error) {
			p := newPipe()
			conns <- p
			return p, nil
		}
		c, stop := run(t, cfg)
		test(c, conns)
		if err := stop(); err != nil {
			t.Fatalf("Run: %v", err)
		}
	})
}

func welcome(exp int64) object {
	return object{"t": "welcome", "id": 1, "user": "alice", "region": "a", "exp": exp, "max": object{}, "regions": []object{}}
}

func TestSilenceReconnects(t *testing.T) {
	inBubble(t, Config{}, func(c *Client, conns <-chan *pipe) {
		p, start := <-conns, time.Now()
		p.send(welcome(0))
		time.Sleep(40 * time.Second)
		p.send(object{"t": "ping"})
		<-conns
		if d := time.Since(start); d < 100*time.Second || d > 101*time.Second {
			t.Fatalf("a new connection after %s, not 60 s after the last frame", d)
		}
		<-p.out // hello
		if got := string(<-p.out); got != "{\"t\":\"pong\"}\n" {
			t.Fatalf("answer to ping: %q", got)
		}
	})
}

func TestNoWelcome(t *testing.T) {
	inBubble(t, Config{}, func(c *Client, conns <-chan *pipe) {
		start := time.Now()
		<-conns
		<-conns
		if d := time.Since(start); d < welcomeTimeout || d > welcomeTimeout+backoffMin {
			t.Fatalf("a new connection after %s", d)
		}
	})
}

func TestTokenRenewed(t *testing.T) {
	n := 0
	token := func(context.Context) (string, error) { n++; return fmt.Sprint("token-", n), nil }
	inBubble(t, Config{Token: token}, func(c *Client, conns <-chan *pipe) {
		p, start := <-conns, time.Now()
		p.send(welcome(start.Add(50 * time.Second).Unix()))
		<-p.out // hello
		want := `{"t":"auth","id":2,"token":"token-2"}` + "\n"
		if got := string(<-p.out); got != want || time.Since(start) > 41*time.Second {
			t.Fatalf("after %s: %q", time.Since(start), got)
		}
	})
}

// TestTokenRenewedAtTheNextTry: who cannot give a fresh token is asked again while the old one lasts.
func TestTokenRenewedAtTheNextTry(t *testing.T) {
	n := 0
	token := func(context.Context) (string, error) {
		if n++; n == 2 {
			return "", errors.New("no network")
		}
		return fmt.Sprint("token-", n), nil
	}
	inBubble(t, Config{Token: token}, func(c *Client, conns <-chan *pipe) {
		p, start := <-conns, time.Now()
		p.send(welcome(start.Add(50 * time.Second).Unix()))
		<-p.out // hello
		if got := string(<-p.out); !strings.Contains(got, `"token":"token-3"`) || time.Since(start) >= 50*time.Second {
			t.Fatalf("after %s: %q", time.Since(start), got)
		}
	})
}

func TestRegionMoves(t *testing.T) {
	inBubble(t, Config{}, func(c *Client, conns <-chan *pipe) {
		p, start := <-conns, time.Now()
		p.send(welcome(0))
		p.send(object{"t": "move", "after": 3000, "why": "drain", "to": []object{{"region": "b", "url": "ws://b/"}}})
		q := <-conns
		if d := time.Since(start); d != 3*time.Second {
			t.Fatalf("moved after %s", d)
		}
		<-q.out
		<-p.closed
		if st := c.Status(); st.Region != "b" {
			t.Fatalf("status %+v", st)
		}
	})
}

// TestRouteTriesTheNodesOfARegion: after the end of a connection, however long it lived, the region's next node is tried,
// and after two failures another region.
func TestRouteTriesTheNodesOfARegion(t *testing.T) {
	r := newRoute([]Region{{Name: "a", URL: "a1"}, {Name: "b", URL: "b1"}})
	r.learn("a", []Region{{Name: "a", URL: "a1", URLs: []string{"a1", "a2", "a3"}}})
	var got []string
	for _, lived := range []time.Duration{time.Hour, 0, 0, 0} {
		got = append(got, r.current().URL)
		r.ended(r.current().Name, lived)
	}
	if want := []string{"a1", "a2", "a3", "b1"}; !slices.Equal(got, want) {
		t.Errorf("tried %v, want %v", got, want)
	}
}

func TestBackoffGrowsWithJitter(t *testing.T) {
	r := newRoute([]Region{{Name: "a"}, {Name: "b", State: "down"}, {Name: "c"}})
	var at []string
	var limits []time.Duration
	for range 9 {
		r.ended(r.current().Name, 0)
		at = append(at, r.current().Name)
		limits = append(limits, r.backoff(0.5)*2)
	}
	if want := []string{"a", "c", "c", "a", "a", "c", "c", "a", "a"}; !slices.Equal(at, want) {
		t.Errorf("regions %v", at)
	}
	s := time.Second
	if want := []time.Duration{s / 2, s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, 30 * s}; !slices.Equal(limits, want) {
		t.Errorf("limits %v", limits)
	}
	if r.ended("a", stableAfter); r.backoff(0.5)*2 != s/2 {
		t.Error("a stable connection did not reset the backoff")
	}
}

// TestServedClientsComeBackSoon: who was welcomed stays away for a second at most, and for half of one if the connection lived for a while; who never is waits
// longer each time.
func TestServedClientsComeBackSoon(t *testing.T) {
	r := newRoute([]Region{{Name: "a", URLs: []string{"a1", "a2"}}})
	for i, c := range []struct {
		lived, want time.Duration
	}{
		{0, 500 * time.Millisecond}, {0, time.Second}, {0, 2 * time.Second}, {time.Millisecond, time.Second}, {time.Millisecond, time.Second},
		{servedAfter, 500 * time.Millisecond}, {servedAfter, 500 * time.Millisecond}, {time.Millisecond, 500 * time.Millisecond}, {0, time.Second},
	} {
		before := r.current().URL
		r.ended("a", c.lived)
		if got := r.backoff(0.5) * 2; got != c.want {
			t.Errorf("%d: it waits for up to %v, want %v", i, got, c.want)
		}
		if r.current().URL == before {
			t.Errorf("%d: it goes to the same node again", i)
		}
	}
}
