package gateway

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// passedOn begins the names of tests whose clients are an edge's, which brings them from one node with data to another all the time.
const passedOn = "TestPassedOnAllTheTime/"

// passes counts how often a client was brought elsewhere in these.
var passes atomic.Int64

// passingEdge is an edge of two gateways over one region.
func passingEdge(t testing.TB, f *fake, g *Gateway, cfg Config) *Edge {
	d := &doors{conns: map[string]*grpc.ClientConn{}}
	d.add(t, "one", g)
	two, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(two.Watch())
	d.add(t, "two", two)
	e := startEdge(t, d)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, c := range e.remotes() {
				c.passOn()
			}
			two.Recheck()
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		passes.Add(int64(testutil.ToFloat64(e.metrics.handed.WithLabelValues("moved"))))
	})
	return e
}

// remotes are all clients of an edge.
func (e *Edge) remotes() (all []*remote) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range e.upstreams {
		all = append(all, u.all()...)
	}
	return all
}

// TestPassedOnAllTheTime: a client cannot tell that its connection is brought from one node to another, again and again, but for this: what it puts in that moment
// may come as an entry before its ok does, as after a reconnect.
func TestPassedOnAllTheTime(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"HelloIsRefused":     TestHelloIsRefused,
		"FramesAreRefused":   TestFramesAreRefused,
		"RegionCannotCommit": TestRegionCannotCommit,
		"BadTokensResync":    TestBadTokensResync,
	} {
		t.Run(name, test)
	}
	if passes.Load() == 0 {
		t.Error("nobody was brought from one node to the other")
	}
}

// TestPassedOnWhileBehind: a client that waits for what another region has goes on waiting where it is brought meanwhile, puts after what it has seen, and hears when it has that.
func TestPassedOnWhileBehind(t *testing.T) {
	f := newFake()
	one, leave := leaver(t, f)
	two, _ := serveWith(t, f, Config{})
	d := &doors{conns: map[string]*grpc.ClientConn{}}
	d.add(t, "one", one)
	srv := httptest.NewServer(startEdge(t, d).Handler())
	defer srv.Close()
	alice := hello(t, "ws"+strings.TrimPrefix(srv.URL, "http")+"/v1/connect")
	pos := position{seen: crdt.Vector{shanghai.ID(): 1}, floor: crdt.Floor{Seq: 41}}
	alice.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, one.tokens.Load().mint(&pos, "alice", "alice/a"))
	if delta := alice.expect("delta"); delta["behind"] != true {
		t.Fatalf("%v", delta)
	}
	d.add(t, "two", two)
	if err := leave(); err != nil {
		t.Fatal(err)
	}
	if delta := alice.expect("delta"); delta["behind"] != true || delta["id"] != nil {
		t.Errorf("at the other node it hears %v", delta)
	}
	alice.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	if ok := alice.expect("ok"); ok["at"].([]any)[0].(map[string]any)["seq"] != 42.0 {
		t.Errorf("a put after what it has seen: %v", ok)
	}
	f.arrive(far(), shanghai)
	if delta := alice.expect("delta"); delta["behind"] != false {
		t.Errorf("%v", delta)
	}
}

// leaver is a gateway that a test ends.
func leaver(t *testing.T, f *fake) (g *Gateway, leave func() error) {
	t.Helper()
	cfg := Config{Region: "beijing", Node: "b0", Backend: f, Peers: f, Auth: Dev{}, Keys: testKeys, BehindAfter: time.Millisecond,
		Heirs: func(int) []wire.MoveTo { return []wire.MoveTo{{Region: "beijing", URL: "ws://b1"}} }}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	<-f.begun
	return g, func() error {
		cancel()
		return <-done
	}
}

// TestEdgeIsHandedOver: when a node ends in order, its clients at an edge go on at another one. They hear nothing of it, and what they wait for comes.
func TestEdgeIsHandedOver(t *testing.T) {
	f := newFake()
	f.reach = wire.Reach{}
	one, leave := leaver(t, f)
	two, _ := serveWith(t, f, Config{})
	d := &doors{conns: map[string]*grpc.ClientConn{}}
	d.add(t, "one", one)
	e := startEdge(t, d)
	srv := httptest.NewServer(e.Handler())
	defer srv.Close()
	url := "ws" + strings.TrimPrefix(srv.URL, "http") + "/v1/connect"
	silent := dial(t, url) // says hello later
	alice, other := hello(t, url), hello(t, url)
	alice.say(`{"t":"open","id":2,"s":"alice/a"}`)
	alice.expect("snap")
	alice.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m1","text":"x"}]}`)
	alice.expect("ok")
	other.say(`{"t":"put","id":9,"s":"alice/a","regions":1,"ops":[{"k":"msg","oid":"m2","text":"y"}]}`)
	alice.expect("delta")
	d.add(t, "two", two)
	if err := leave(); err != nil {
		t.Fatal(err)
	}
	if f := other.expect("ok"); f["id"] != 9.0 {
		t.Errorf("a put that waited for other regions: %v", f)
	}
	for len(two.all()) != 3 { // the edge has said so, and it is on its way
		<-time.After(time.Millisecond)
	}
	f.setReach(wire.Reach{Regions: 1, Safe: true})
	if f, err := alice.hear(); err != nil || f.str("t") != "safe" {
		t.Errorf("the next that is heard is %v, %v", f, err)
	}
	alice.say(`{"t":"put","id":4,"s":"alice/a","ops":[{"k":"msg","oid":"m3","text":"z"}]}`)
	if f, err := alice.hear(); err != nil || f.str("t") != "ok" || f.str("cur") == "" {
		t.Errorf("then %v, %v", f, err)
	}
	silent.say(`{"t":"hello","id":1,"token":"dev:alice","device":"tablet","open":[{"s":"alice/a"}]}`)
	if w, s := silent.expect("welcome"), silent.expect("snap"); w.str("node") != "b1" || len(s["log"].([]any)) != 3 {
		t.Errorf("who says hello after it: %v, %v", w, s)
	}
}

// TestNobodyTakesItOn: without another node the clients of one that ends come back, and it waits for them no longer.
func TestNobodyTakesItOn(t *testing.T) {
	one, leave := leaver(t, newFake())
	d := &doors{conns: map[string]*grpc.ClientConn{}}
	d.add(t, "one", one)
	srv := httptest.NewServer(startEdge(t, d).Handler())
	defer srv.Close()
	alice := hello(t, "ws"+strings.TrimPrefix(srv.URL, "http")+"/v1/connect")
	left := make(chan error, 1)
	go func() { left <- leave() }()
	if f := alice.expect("err"); f.str("code") != string(wire.Unavailable) {
		t.Errorf("%v", f)
	}
	if _, err := alice.hear(); websocket.CloseStatus(err) != websocket.StatusCode(wire.StatusGoingAway) {
		t.Errorf("closed with %v", err)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
}

// TestHandedIsJudged: what cannot be gone on with ends with a reason, and the client comes back.
func TestHandedIsJudged(t *testing.T) {
	cur := func(g *Gateway) string {
		return g.tokens.Load().mint(&position{seen: crdt.Vector{}}, "alice", "alice/a")
	}
	many := make([]*peerpb.HandedSession, wire.MaxOpen+1)
	for i := range many {
		many[i] = &peerpb.HandedSession{Session: "alice/" + strings.Repeat("x", i%60+1) + string(rune('a'+i/60))}
	}
	for name, c := range map[string]struct {
		h      *peerpb.Handed
		status wire.Status
	}{
		"its token has ended":       {&peerpb.Handed{Token: "dev:"}, wire.StatusExpired},
		"another's session":         {&peerpb.Handed{Token: "dev:alice", Sessions: []*peerpb.HandedSession{{Session: "bob/a"}}}, wire.StatusGoingAway},
		"a session twice":           {&peerpb.Handed{Token: "dev:alice", Sessions: []*peerpb.HandedSession{{Session: "alice/a"}, {Session: "alice/a"}}}, wire.StatusGoingAway},
		"more sessions than may be": {&peerpb.Handed{Token: "dev:alice", Sessions: many}, wire.StatusGoingAway},
	} {
		g, _ := serve(t, newFake())
		stream := knock(t, g)
		if err := stream.Send(&peerpb.FromClient{Conn: 1, Begin: true, Handed: c.h}); err != nil {
			t.Fatal(err)
		}
		var m *peerpb.ToClient
		var err error
		for m == nil || m.Ending == nil && err == nil {
			m, err = stream.Recv()
		}
		if err != nil || m.Ending.Status != uint32(c.status) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	g, _ := serve(t, newFake())
	stream := knock(t, g)
	good := &peerpb.Handed{Token: "dev:alice", Waiting: []*peerpb.HandedOp{{Session: "alice/a", Oid: "m", Origin: "no origin"}},
		Sessions: []*peerpb.HandedSession{{Session: "alice/a", Cur: cur(g), Answered: true, Behind: true, Told: make([]string, 2*toldMost)}}}
	if err := stream.Send(&peerpb.FromClient{Conn: 1, Begin: true, Handed: good}); err != nil {
		t.Fatal(err)
	}
	m, err := stream.Recv()
	if err != nil || !strings.Contains(string(m.Message), `"behind":false`) {
		t.Errorf("a client that was told that its region is behind hears that this one is not: %v, %v", m, err)
	}
}

// TestMoreThanIsHandedOver: a connection of which there is too much to say ends, and its client comes back.
func TestMoreThanIsHandedOver(t *testing.T) {
	g, _ := serve(t, newFake())
	c, err := g.Connect(&guest{door: &door{ctx: t.Context(), out: make(chan *peerpb.ToClient, 8)}, id: 1}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer c.End()
	c.Receive([]byte(`{"t":"hello","id":1,"token":"dev:alice","device":"phone"}`))
	if err := c.Work(); err != nil {
		t.Fatal(err)
	}
	for len(c.unsafe) < maxUnsafe {
		c.unsafe = append(c.unsafe, unsafePut{session: "alice/" + strings.Repeat("s", 60), oid: strings.Repeat("o", 64), dot: crdt.Dot{Origin: shanghai, F: 1}})
	}
	c.handOver()
	if err := c.Work(); err == nil {
		t.Error("it goes on")
	}
	out := c.t.(*guest).door.out
	<-out // welcome
	if why, end := <-out, <-out; !strings.Contains(string(why.Message), string(wire.Unavailable)) || end.GetEnding().GetStatus() != uint32(wire.StatusGoingAway) {
		t.Errorf("%v, %v", why, end)
	}
	if n := proto.Size(c.handed()); n <= maxHanded {
		t.Errorf("%d bytes are not too much", n)
	}
}
