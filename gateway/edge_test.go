package gateway

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// doors are data nodes that an edge reaches in memory.
type doors struct {
	mu    sync.Mutex
	order []string
	conns map[string]*grpc.ClientConn
}

func (d *doors) DataNodes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.order...)
}

func (d *doors) Door(addr string) (peerpb.DoorClient, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns[addr] == nil {
		return nil, errors.New("no such node")
	}
	return peerpb.NewDoorClient(d.conns[addr]), nil
}

// add opens the door of a gateway; shut closes it as a crash would.
func (d *doors) add(t testing.TB, addr string, g *Gateway) (shut func()) {
	t.Helper()
	ln := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	peerpb.RegisterDoorServer(srv, g)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.order, d.conns[addr] = append(d.order, addr), conn
	d.mu.Unlock()
	var once sync.Once
	shut = func() {
		once.Do(func() {
			srv.Stop()
			<-served
			conn.Close()
		})
	}
	t.Cleanup(shut)
	return shut
}

// startEdge runs an edge until the test ends.
func startEdge(t testing.TB, d *doors) *Edge {
	t.Helper()
	e, err := NewEdge(EdgeConfig{Doors: d, Auth: Dev{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

func edgeOf(t testing.TB, g *Gateway) *Edge {
	d := &doors{conns: map[string]*grpc.ClientConn{}}
	d.add(t, "one", g)
	return startEdge(t, d)
}

// throughEdge begins the names of tests whose clients are an edge's.
const throughEdge = "TestEdgeServesAsAGatewayDoes/"

// TestEdgeServesAsAGatewayDoes: a client cannot tell whether the node that has its socket holds data.
func TestEdgeServesAsAGatewayDoes(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"VersionIsAgreedOn":    TestVersionIsAgreedOn,
		"HelloIsRefused":       TestHelloIsRefused,
		"FramesAreRefused":     TestFramesAreRefused,
		"RegionCannotCommit":   TestRegionCannotCommit,
		"OkStandsInTheStream":  TestOkStandsInTheStream,
		"SafeFollows":          TestSafeFollows,
		"Behind":               TestBehind,
		"BadTokensResync":      TestBadTokensResync,
		"SlowClientsAreCutOff": TestSlowClientsAreCutOff,
	} {
		t.Run(name, test)
	}
}

// TestEdgeLosesANode: its clients are sent away, and those who come back are served by another.
func TestEdgeLosesANode(t *testing.T) {
	f := newFake()
	one, _ := serve(t, f)
	two, _ := serveWith(t, f, Config{})
	d := &doors{conns: map[string]*grpc.ClientConn{}}
	shut := d.add(t, "one", one)
	d.add(t, "two", two)
	e := startEdge(t, d)
	for _, addr := range d.order { // a node that does not answer at once would be passed over
		if err := e.to(addr).await(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(e.Handler())
	defer srv.Close()
	url := "ws" + strings.TrimPrefix(srv.URL, "http") + "/v1/connect"
	clients := []*dialed{hello(t, url), hello(t, url), hello(t, url), hello(t, url)}
	if a, b := len(one.all()), len(two.all()); a != 2 || b != 2 {
		t.Errorf("%d and %d connections: they are to be spread", a, b)
	}
	if all := e.Through(); !slices.Equal(all, []Through{{"one", 2, false}, {"two", 2, false}}) {
		t.Errorf("an operator is told %+v", all)
	}
	u := e.to("one")
	shut()
	if <-u.gone; errors.Is(u.why, errSaysNothing) {
		t.Errorf("why it is lost: %v", u.why)
	}
	away := 0
	for _, c := range clients {
		c.say(`{"t":"put","id":2,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
		f, err := c.hear()
		if err == nil && f.str("t") == "ok" {
			continue
		}
		if f.str("code") != string(wire.Unavailable) {
			t.Errorf("told %v, %v", f, err)
		}
		if _, err := c.hear(); websocket.CloseStatus(err) != websocket.StatusCode(wire.StatusGoingAway) {
			t.Errorf("closed with %v", err)
		}
		away++
		hello(t, url)
	}
	if away != 2 || len(two.all()) != 4 {
		t.Errorf("%d clients were sent away, %d connections are at the other node", away, len(two.all()))
	}
	if all := e.Through(); !slices.Equal(all, []Through{{"one", 0, true}, {"two", 4, false}}) {
		t.Errorf("an operator is told %+v of a node that membership still takes for alive", all)
	}
}

// hangs opens a door that never says anything, as the machine of a frozen process does.
func (d *doors) hangs(t testing.TB, addr string) {
	t.Helper()
	ln := bufconn.Listen(1 << 20)
	t.Cleanup(func() { ln.Close() })
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d.mu.Lock()
	defer d.mu.Unlock()
	d.order, d.conns[addr] = append(d.order, addr), conn
}

// TestEdgePassesOverANodeThatHangs: a node that membership takes for alive, and that says nothing, costs the first client a moment, and those after it nothing.
func TestEdgePassesOverANodeThatHangs(t *testing.T) {
	two, _ := serve(t, newFake())
	d := &doors{conns: map[string]*grpc.ClientConn{}}
	d.hangs(t, "frozen")
	d.add(t, "two", two)
	e := startEdge(t, d)
	u, err := e.upstream(t.Context())
	if err != nil || u.addr != "two" {
		t.Fatalf("%+v, %v", u, err)
	}
	frozen := e.to("frozen")
	<-frozen.gone // it has been silent for long enough
	if !errors.Is(frozen.why, errSaysNothing) {
		t.Errorf("why it is lost: %v", frozen.why)
	}
	if order := e.inOrder(); order[0] != "two" {
		t.Errorf("the next client is brought to %v", order)
	}
	e.found("frozen")
	if order := e.inOrder(); len(order) != 2 || order[0] != "frozen" {
		t.Errorf("one that serves again is tried at %v", order)
	}
}

// TestEdgeWithoutNodes: nobody is left waiting.
func TestEdgeWithoutNodes(t *testing.T) {
	srv := httptest.NewServer(startEdge(t, &doors{order: []string{"gone"}, conns: map[string]*grpc.ClientConn{}}).Handler())
	defer srv.Close()
	_, res, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http")+"/v1/connect",
		&websocket.DialOptions{Subprotocols: []string{Subprotocol}})
	if err == nil || res == nil || res.StatusCode != 503 {
		t.Errorf("%v, %v", res, err)
	}
}
