package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines are connections to named places. The test says which are refused, and which take their time.
type lines struct {
	mu     sync.Mutex
	refuse string                   // guarded by mu
	wait   map[string]chan struct{} // guarded by mu; until closed, connecting takes
	conns  chan *pipe
	tokens chan error // guarded by mu; if set, what to say of the next token
}

func (l *lines) token(ctx context.Context) (string, error) {
	l.mu.Lock()
	tokens := l.tokens
	l.mu.Unlock()
	if tokens == nil {
		return "dev:alice", nil
	}
	select {
	case err := <-tokens:
		return "dev:alice", err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (l *lines) refuses(url string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = url
}

func (l *lines) waits(url string) (until chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wait[url] = make(chan struct{})
	return l.wait[url]
}

func (l *lines) dial(ctx context.Context, url string) (Conn, error) {
	l.mu.Lock()
	wait, refuse := l.wait[url], l.refuse == url
	l.mu.Unlock()
	if refuse {
		return nil, errors.New("refused")
	}
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p := newPipe()
	p.url = url
	l.conns <- p
	return p, nil
}

// inBubbleWith runs a client in fake time.
func inBubbleWith(t *testing.T, regions []Region, test func(c *Client, l *lines)) {
	synctest.Test(t, func(t *testing.T) {
		l := &lines{wait: map[string]chan struct{}{}, conns: make(chan *pipe, 64)}
		c, stop := run(t, Config{Regions: regions, Token: l.token, Dice: func() float64 { return 0 }, Dial: l.dial})
		test(c, l)
		if err := stop(); err != nil {
			t.Fatalf("Run: %v", err)
		}
	})
}

// next is the next connection, which is welcomed by its region.
func (l *lines) next(t *testing.T, url, region string) *pipe {
	t.Helper()
	select {
	case p := <-l.conns:
		if p.url != url {
			t.Fatalf("it connects to %s, not %s", p.url, url)
		}
		<-p.out // hello
		p.send(object{"t": "welcome", "id": 1, "user": "alice", "region": region, "exp": 0, "max": object{}, "regions": []object{}})
		synctest.Wait()
		return p
	case <-time.After(10 * time.Minute):
		t.Fatalf("it does not connect to %s", url)
		return nil
	}
}

var three = []Region{{Name: "a", URL: "ws://a/"}, {Name: "b", URL: "ws://b/"}, {Name: "c", URL: "ws://c/"}}

// TestLastMoveCounts: where the user wants to be in the end is where the client goes, whatever is under way.
func TestLastMoveCounts(t *testing.T) {
	for _, last := range []string{"a", "c"} {
		inBubbleWith(t, three, func(c *Client, l *lines) {
			l.next(t, "ws://a/", "a")
			made := l.waits("ws://b/")
			for _, to := range []string{"b", last} {
				if err := c.Move(to); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			close(made)
			between := <-l.conns // it may be left before it is greeted
			if between.url != "ws://b/" {
				t.Fatalf("it connects to %s", between.url)
			}
			between.send(object{"t": "welcome", "id": 1, "user": "alice", "region": "b", "exp": 0, "max": object{}, "regions": []object{}})
			l.next(t, "ws://"+last+"/", last)
			if st := c.Status(); st.Region != last || !st.Connected {
				t.Errorf("it is in %s, not %s", st.Region, last)
			}
		})
	}
}

// TestMoveDoesNotWaitForTheGoodbye: the region that is left may be far away, or gone.
func TestMoveDoesNotWaitForTheGoodbye(t *testing.T) {
	inBubbleWith(t, three, func(c *Client, l *lines) {
		first := l.next(t, "ws://a/", "a")
		first.goodbye = 5 * time.Second
		begun := time.Now()
		if err := c.Move("b"); err != nil {
			t.Fatal(err)
		}
		l.next(t, "ws://b/", "b")
		if took := time.Since(begun); took > 0 {
			t.Errorf("it was without a region for %s", took)
		}
		if st := c.Status(); st.Region != "b" || !st.Connected {
			t.Errorf("status %+v", st)
		}
	})
}

// TestFewGoodbyesAtOnce: a client that is sent from one region to the other all the time does not wait for ever more goodbyes.
func TestFewGoodbyesAtOnce(t *testing.T) {
	inBubbleWith(t, three, func(c *Client, l *lines) {
		p, to := l.next(t, "ws://a/", "a"), "a"
		for range 3 * maxByes {
			p.goodbye = time.Hour
			to = map[string]string{"a": "b", "b": "a"}[to]
			if err := c.Move(to); err != nil {
				t.Fatal(err)
			}
			p = l.next(t, "ws://"+to+"/", to)
			c.mu.Lock()
			if c.byes > maxByes {
				t.Errorf("%d goodbyes at once", c.byes)
			}
			c.mu.Unlock()
		}
	})
}

// TestMoveTriesAllNodes of the region.
func TestMoveTriesAllNodes(t *testing.T) {
	regions := []Region{three[0], {Name: "b", URL: "ws://b1/", URLs: []string{"ws://b1/", "ws://b2/"}}}
	inBubbleWith(t, regions, func(c *Client, l *lines) {
		l.next(t, "ws://a/", "a")
		l.refuses("ws://b1/")
		if err := c.Move("b"); err != nil {
			t.Fatal(err)
		}
		l.next(t, "ws://b2/", "b")
	})
}

// TestHungNodeIsLeftLater: a node that hangs while the other one cannot be reached is left when that can.
func TestHungNodeIsLeftLater(t *testing.T) {
	regions := []Region{{Name: "a", URL: "ws://a1/", URLs: []string{"ws://a1/", "ws://a2/"}}}
	inBubbleWith(t, regions, func(c *Client, l *lines) {
		p := l.next(t, "ws://a1/", "a")
		s := open(t, c)
		<-p.out // open, which is not answered
		l.refuses("ws://a2/")
		if _, err := s.Send("so", SendOptions{}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		time.Sleep(2 * time.Second)
		l.refuses("")
		l.next(t, "ws://a2/", "a")
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it was left after %s", took)
		}
	})
}

// TestMoveHasItsTokenFirst: a connection is left when there is all that the next one needs. If there is no token it stays.
func TestMoveHasItsTokenFirst(t *testing.T) {
	inBubbleWith(t, three, func(c *Client, l *lines) {
		first := l.next(t, "ws://a/", "a")
		l.mu.Lock()
		l.tokens = make(chan error)
		l.mu.Unlock()
		for _, then := range []func(){
			func() { l.tokens <- errors.New("no network") },
			func() { time.Sleep(nextToken) },
			func() { l.tokens <- nil },
		} {
			if err := c.Move("b"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			first.send(object{"t": "ping"})
			if st := c.Status(); st.Region != "a" || !st.Connected {
				t.Errorf("without a token it is in %s: %v", st.Region, st.Connected)
			}
			then()
			synctest.Wait()
		}
		for range 2 { // of what came to nothing
			p := <-l.conns
			<-p.closed
		}
		l.next(t, "ws://b/", "b")
		if st := c.Status(); st.Region != "b" || !st.Connected {
			t.Errorf("status %+v", st)
		}
	})
}
