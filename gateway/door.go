package gateway

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// doorQueue bounds the messages that wait for the stream to a node that has the sockets. When it is full the connections wait, and
// what waits for each of them is bounded by its queue.
const doorQueue = 256

// door is a stream from a node that holds no data, and the connections whose sockets it has.
type door struct {
	g   *Gateway
	ctx context.Context // of the stream
	out chan *peerpb.ToClient
	// takesOn: who has the sockets asks for connections when this node ends.
	takesOn atomic.Bool

	mu     sync.Mutex
	guests map[uint64]*guest
}

// guest is a connection whose socket another node has.
type guest struct {
	door *door
	id   uint64
	conn *Conn
	wake chan struct{}

	mu    sync.Mutex // one of Receive and End at a time
	ended bool
}

// Clients implements peerpb.DoorServer: it serves the clients of a node that holds no data.
func (g *Gateway) Clients(stream peerpb.Door_ClientsServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(g.cut.ctx, cancel)()
	d := &door{g: g, ctx: ctx, out: make(chan *peerpb.ToClient, doorQueue), guests: map[uint64]*guest{}}
	gone := make(chan error, 1)
	go func() { gone <- d.receive(stream) }() // ends with the stream, and that when this returns
	if err := stream.Send(&peerpb.ToClient{}); err != nil {
		return err
	}
	leaving := g.leaving
	for {
		select {
		case <-leaving: // once
			leaving = nil
			if err := stream.Send(&peerpb.ToClient{Ending: &peerpb.Ending{Status: uint32(wire.StatusGoingAway)}, HandsOver: true}); err != nil {
				return err
			}
		case m := <-d.out:
			if err := stream.Send(m); err != nil {
				return err
			}
		case err := <-gone:
			return err
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
	}
}

// maxFollowed bounds the sessions of one question.
const maxFollowed = 4096

// Followed implements peerpb.DoorServer.
func (g *Gateway) Followed(_ context.Context, req *peerpb.FollowedRequest) (*peerpb.FollowedReply, error) {
	if len(req.Sessions) > maxFollowed {
		return nil, status.Errorf(codes.InvalidArgument, "%d sessions: at most %d", len(req.Sessions), maxFollowed)
	}
	return &peerpb.FollowedReply{Sessions: g.Open(req.Sessions)}, nil
}

// Open returns which of some sessions clients have open here.
func (g *Gateway) Open(sessions []string) (open []string) {
	for _, s := range sessions {
		if g.hub.has(s) {
			open = append(open, s)
		}
	}
	return open
}

// receive takes frames until the stream ends.
func (d *door) receive(stream peerpb.Door_ClientsServer) error {
	for {
		f, err := stream.Recv()
		if err != nil {
			return err
		}
		if f.Begin {
			if f.Conn == 0 || d.guest(f.Conn) != nil {
				d.g.metrics.refused.WithLabelValues("edge").Inc()
				return status.Errorf(codes.InvalidArgument, "connection %d cannot begin", f.Conn)
			}
			d.begin(f.Conn, f.Handed)
			continue
		}
		switch x := d.guest(f.Conn); {
		case f.Conn == 0 && f.HandOver:
			d.takesOn.Store(true)
		case f.Conn == 0:
			d.live()
		case x == nil: // it has ended, and its client does not know yet
		case f.Ending != nil:
			x.ending(f.Ending)
		case f.HandOver:
			x.handOver()
		case len(f.Line) > 0 || f.TooLong:
			x.line(f.Line, f.TooLong || len(f.Line) > wire.MaxLine)
		}
	}
}

// live is a sign of life. One that does not fit is not needed: others wait to be sent.
func (d *door) live() {
	select {
	case d.out <- &peerpb.ToClient{}:
	default:
	}
}

// guest returns the connection with a number; nil if it is over.
func (d *door) guest(id uint64) *guest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.guests[id]
}

// begin takes in a connection, a new one or one that was another node's. Its goroutine ends with it or with the stream; whoever waits for the gateway's connections waits
// for it.
func (d *door) begin(id uint64, handed *peerpb.Handed) {
	x := &guest{door: d, id: id, wake: make(chan struct{}, 1)}
	c, err := d.g.Connect(x, x.signal)
	if err != nil {
		x.Close(wire.StatusGoingAway, err.Error())
		return
	}
	x.conn = c
	if handed.GetToken() != "" {
		c.resume(handed)
	}
	d.mu.Lock()
	d.guests[id] = x
	d.mu.Unlock()
	go x.work()
}

func (x *guest) signal() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *guest) work() {
	defer x.end()
	for {
		select {
		case <-x.wake:
			if x.conn.Work() != nil {
				return
			}
		case <-x.door.ctx.Done():
			return
		}
	}
}

func (x *guest) line(frame []byte, tooLong bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		x.conn.line(frame, tooLong)
	}
}

func (x *guest) handOver() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		x.conn.handOver()
	}
}

func (x *guest) ending(e *peerpb.Ending) {
	if e.Status == 0 {
		x.conn.end(nil, 0)
		return
	}
	x.conn.end(&wire.Error{Code: wire.Code(e.Code), Msg: e.Why}, wire.Status(e.Status))
}

// end lets go of the connection.
func (x *guest) end() {
	x.door.mu.Lock()
	delete(x.door.guests, x.id)
	x.door.mu.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	x.conn.End()
}

// Write implements Transport.
func (x *guest) Write(message []byte) error {
	return x.put(&peerpb.ToClient{Conn: x.id, Message: bytes.Clone(message)})
}

// Close implements Transport.
func (x *guest) Close(status wire.Status, reason string) {
	_ = x.put(&peerpb.ToClient{Conn: x.id, Ending: &peerpb.Ending{Status: uint32(status), Why: reason}})
}

func (x *guest) put(m *peerpb.ToClient) error {
	select {
	case x.door.out <- m:
		return nil
	case <-x.door.ctx.Done():
		return x.door.ctx.Err()
	}
}
