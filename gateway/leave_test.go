package gateway

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// ending is a gateway that is told to end, with three clients that were welcomed and one that has not said hello.
func ending(t *testing.T, heirs func(int) []wire.MoveTo) (r *rig, clients []*driven, silent *driven, ended chan error) {
	r = newRig(t, Config{Heirs: heirs})
	r.g.cfg.Clock = machineClock{} // which in a bubble is the bubble's
	for range 3 {
		clients = append(clients, r.hello())
	}
	silent, ended = r.connect(), make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- r.g.Run(ctx) }()
	stop()
	r.await()
	return r, clients, silent, ended
}

// await lets the gateway come to where it waits, and then all work. Who is woken is noted under the lock of its connection.
func (r *rig) await() {
	synctest.Wait()
	for _, c := range r.g.all() {
		c.mu.Lock()
		_ = c.queue
		c.mu.Unlock()
	}
	r.settle()
}

// TestClientsAreSentOn: clients of a node that ends are told where to go, each at its own moment, and are served until they have gone; the node waits for
// them, takes no others, and not for ever.
func TestClientsAreSentOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, clients, silent, ended := ending(t, func(n int) []wire.MoveTo {
			return []wire.MoveTo{{Region: "beijing", URL: []string{"ws://b2", "ws://b3"}[n%2]}}
		})
		last := -1.0
		for i, d := range clients {
			m := d.want("move")
			to := m["to"].([]any)[0].(map[string]any)
			if m.str("why") != "drain" || m["after"].(float64) < last || to["url"] != []string{"ws://b2", "ws://b3"}[i%2] {
				t.Errorf("%v", m)
			}
			last = m["after"].(float64)
		}
		silent.wants()
		if _, err := r.g.Connect(&driven{rig: r}, func() {}); !errors.Is(err, ErrFull) {
			t.Errorf("a client that comes now: %v", err)
		}
		clients[0].say(`{"t":"put","id":2,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"still here"}]}`)
		clients[0].want("ok")
		clients[0].c.End()
		clients[1].c.End()
		synctest.Wait()
		clients[2].wants()
		time.Sleep(moveSpread + moveGrace)
		r.await()
		if e := clients[2].want("err"); e.str("code") != "unavailable" || clients[2].closed != wire.StatusGoingAway {
			t.Errorf("who stays: %v, %v", e, clients[2].closed)
		}
		clients[2].c.End()
		silent.c.End()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestNobodyIsWaitedForLonger: once all have gone the node ends, and without another node it does at once.
func TestNobodyIsWaitedForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, clients, silent, ended := ending(t, func(int) []wire.MoveTo { return []wire.MoveTo{{Region: "beijing", URL: "ws://b2"}} })
		begun := time.Now()
		for _, d := range append(clients, silent) {
			d.c.End()
		}
		if err := <-ended; err != nil || time.Since(begun) > 0 {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, clients, silent, ended := ending(t, func(int) []wire.MoveTo { return nil })
		for _, d := range append(clients, silent) {
			d.want("err")
			d.c.End()
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// flood has clients write to a session until its name's queue holds a lot, for one who does not read.
func flood(t *testing.T, url string) {
	t.Helper()
	d := hello(t, url)
	text := strings.Repeat("x", 60_000)
	for i := range 400 {
		d.say(`{"t":"put","id":%d,"s":"alice/a","ops":[{"k":"msg","oid":"m%d","text":%q}]}`, i+2, i, text)
		d.expect("ok")
	}
}

// TestNobodyKeepsItFromEnding: a client that does not read, and an edge that has frozen, are cut when the node has waited for long enough.
func TestNobodyKeepsItFromEnding(t *testing.T) {
	for name, deaf := range map[string]func(t *testing.T, g *Gateway, url string){
		"a client": func(t *testing.T, _ *Gateway, url string) {
			hello(t, url).say(`{"t":"open","id":2,"s":"alice/a"}`)
		},
		"an edge": func(t *testing.T, g *Gateway, _ string) {
			stream := knock(t, g)
			for _, m := range []*peerpb.FromClient{
				{HandOver: true}, {Conn: 1, Begin: true}, {Conn: 1, Line: []byte(`{"t":"hello","id":1,"token":"dev:alice","device":"x","open":[{"s":"alice/a"}]}`)},
			} {
				if err := stream.Send(m); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			g, leave := leaver(t, f)
			srv := httptest.NewServer(g.Handler())
			url := "ws" + strings.TrimPrefix(srv.URL, "http") + "/v1/connect"
			deaf(t, g, url)
			for !g.hub.has("alice/a") {
				<-time.After(time.Millisecond)
			}
			flood(t, url)
			if err := leave(); err != nil {
				t.Error(err)
			}
			if g.cut.ctx.Err() == nil {
				t.Error("nobody was cut: nothing is tested")
			}
			srv.Close()
		})
	}
}
