package gateway

import (
	"bytes"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// knock opens a stream to a gateway's door, as an edge does.
func knock(t *testing.T, g *Gateway) peerpb.Door_ClientsClient {
	t.Helper()
	d := &doors{conns: map[string]*grpc.ClientConn{}}
	d.add(t, "one", g)
	door, err := d.Door("one")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := door.Clients(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.Conn != 0 {
		t.Fatalf("the first message is %v, %v", m, err)
	}
	return stream
}

// TestBeginningsThatAreNone: a stream that begins a connection twice, or one that has no number, ends, and what it had begun with it.
func TestBeginningsThatAreNone(t *testing.T) {
	for name, begins := range map[string][]uint64{"twice": {7, 7}, "without a number": {7, 0}} {
		g, _ := serve(t, newFake())
		stream := knock(t, g)
		for _, id := range begins {
			if err := stream.Send(&peerpb.FromClient{Conn: id, Begin: true}); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}

// TestLongFramesOfAnEdge: a frame over the limit is refused here too, whatever the edge says of it.
func TestLongFramesOfAnEdge(t *testing.T) {
	g, _ := serve(t, newFake())
	stream := knock(t, g)
	hello := `{"t":"hello","id":1,"token":"dev:alice","device":"` + string(bytes.Repeat([]byte("x"), wire.MaxFrame)) + `"}`
	for _, m := range []*peerpb.FromClient{{Conn: 1, Begin: true}, {Conn: 1, Line: []byte(hello)}} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	m, err := stream.Recv()
	if err != nil || !bytes.Contains(m.Message, []byte(wire.TooLarge)) {
		t.Errorf("%s, %v", m.GetMessage(), err)
	}
}
