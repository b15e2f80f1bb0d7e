package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// puppet is a node: it welcomes, and says ok to every put, until it hangs.
type puppet struct {
	mu    sync.Mutex
	hangs bool
	mute  bool // it takes connections and answers nothing
	// slowGoodbye is how long a close takes that waits for an answer.
	slowGoodbye time.Duration
	dialed      []time.Duration // since the start of the test
	puts        int
	start       time.Time
	safe        bool
}

// puppetConn is a connection to a puppet.
type puppetConn struct {
	p      *puppet
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

func (p *puppet) dial(ctx context.Context) (Conn, error) {
	p.mu.Lock()
	p.dialed = append(p.dialed, time.Since(p.start))
	hangs := p.hangs
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &puppetConn{p: p, out: make(chan []byte, 16), closed: make(chan struct{})}, nil
}

func (c *puppetConn) Read(context.Context) ([]byte, error) {
	select {
	case b := <-c.out:
		return b, nil
	case <-c.closed:
		return nil, errors.New("closed")
	}
}

func (c *puppetConn) Write(_ context.Context, message []byte) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for line := range bytes.Lines(message) {
		var f struct {
			T  string
			ID int64
		}
		if err := json.Unmarshal(line, &f); err != nil {
			return err
		}
		switch {
		case c.p.hangs || c.p.mute:
		case f.T == "hello":
			c.out <- []byte(`{"t":"welcome","id":1,"conn":"c","user":"u","region":"b","node":"n","ping":25,"exp":0,"max":{"frame":9000,"ops":10,"rate":50},` +
				`"regions":[{"name":"b","url":"ws://b1/","urls":["ws://b1/","ws://b2/"],"state":"up"}]}`)
		case f.T == "put":
			c.p.puts++
			c.out <- fmt.Appendf(nil, `{"t":"ok","id":%d,"s":"u/x","at":[],"regions":0,"safe":%t}`, f.ID, c.p.safe)
		}
	}
	return nil
}

func (c *puppetConn) Close(code int, _ string) error {
	if code != 0 {
		time.Sleep(c.p.slowGoodbye)
	}
	c.once.Do(func() { close(c.closed) })
	return nil
}

// puppets starts a client of a region of two nodes, of which the first may hang from the start on.
func puppets(t *testing.T, firstHangs bool) (c *Client, one, two *puppet, end func()) {
	t.Helper()
	one, two = &puppet{start: time.Now(), safe: true, hangs: firstHangs}, &puppet{start: time.Now(), safe: true}
	c, err := New(Config{
		Regions: []Region{{Name: "b", URL: "ws://b1/", URLs: []string{"ws://b1/", "ws://b2/"}}},
		Token:   func(context.Context) (string, error) { return "dev:u", nil },
		Dial: func(ctx context.Context, url string) (Conn, error) {
			if url == "ws://b1/" {
				return one.dial(ctx)
			}
			return two.dial(ctx)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, one, two, func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// TestNodeThatHangsIsLeft: a put that a node does not answer goes to another node of the region, within little more than a second.
func TestNodeThatHangsIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, one, two, end := puppets(t, false)
		defer end()
		s, err := c.Session("u/x")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		one.mu.Lock()
		one.hangs = true
		one.mu.Unlock()
		r, err := s.Send("hello", SendOptions{})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := r.Wait(t.Context(), Stored); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < stuckAfter || took > stuckAfter+100*time.Millisecond {
			t.Errorf("the other node said ok after %s", took)
		}
		if two.puts != 1 {
			t.Errorf("%d puts at the other node", two.puts)
		}
	})
}

// TestNodeThatNeverWelcomesIsLeft: a node may hang right after it has taken the connection. Nor is its goodbye waited for.
func TestNodeThatNeverWelcomesIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, one, two, end := puppets(t, false)
		defer end()
		one.mute, one.slowGoodbye = true, 5*time.Second
		s, err := c.Session("u/x")
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Send("hello", SendOptions{})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := r.Wait(t.Context(), Stored); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > stuckAfter+100*time.Millisecond || two.puts != 1 {
			t.Errorf("the other node said ok after %s, to %d puts", took, two.puts)
		}
	})
}

// TestFirstNodeThatAnswersIsTaken: one that accepts connections and says nothing does not hold a client up.
func TestFirstNodeThatAnswersIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, two, end := puppets(t, true)
		defer end()
		synctest.Wait()
		time.Sleep(headStart + time.Millisecond) // of the bubble's time
		synctest.Wait()
		if !c.Status().Connected || !slices.Equal(two.dialed, []time.Duration{headStart}) {
			t.Errorf("connected: %t; the second node was tried after %v", c.Status().Connected, two.dialed)
		}
	})
}
