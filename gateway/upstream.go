package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// upstreamQueue bounds the frames that wait for a stream to a node with data; when it is full clients are not read.
	upstreamQueue = 256
	// waitingBytes bounds what waits for a client's socket. One that does not keep up is closed with 4002.
	waitingBytes = 4 << 20
	// upstreamBeat is how often a node with data is asked for a sign of life, and upstreamSilent how long it may give none: then its
	// clients are sent to others.
	upstreamBeat   = 300 * time.Millisecond
	upstreamSilent = time.Second
)

// upstream is the stream to one node that holds data, and the clients whose connections live there.
type upstream struct {
	e      *Edge
	addr   string
	out    chan *peerpb.FromClient
	opened chan struct{} // closed when the node has said that it takes clients
	gone   chan struct{} // closed when the stream has ended
	why    error         // of gone

	mu      sync.Mutex
	last    uint64
	clients map[uint64]*remote
	ended   bool
	leaving bool // the node takes no more clients
}

func newUpstream(e *Edge, addr string) *upstream {
	return &upstream{
		e: e, addr: addr, out: make(chan *peerpb.FromClient, upstreamQueue), opened: make(chan struct{}), gone: make(chan struct{}),
		clients: map[uint64]*remote{},
	}
}

// load is how many clients there are; a node without a stream has none.
func (u *upstream) load() int {
	if u == nil {
		return 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.leaving {
		return math.MaxInt
	}
	return len(u.clients)
}

var errSaysNothing = errors.New("it says nothing: it hangs, or the way to it does")

// await waits until the node has said that it takes clients, or the stream has ended, but not for long.
func (u *upstream) await(ctx context.Context, patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-u.opened:
		return nil
	case <-u.gone:
		return u.why
	case <-late.C:
		return fmt.Errorf("node at %s: %w", u.addr, errSaysNothing)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run carries frames until the stream ends, and says why it did.
func (u *upstream) run() {
	ctx, cancel := context.WithCancelCause(u.e.ctx)
	defer cancel(nil)
	silent := newSilence(upstreamSilent, func() { cancel(errSaysNothing) })
	defer silent.stop()
	door, err := u.e.cfg.Doors.Door(u.addr)
	if err == nil {
		var stream peerpb.Door_ClientsClient
		if stream, err = door.Clients(ctx); err == nil {
			err = u.carry(ctx, func() { cancel(nil) }, stream, silent)
		}
	}
	if context.Cause(ctx) == errSaysNothing {
		err = errSaysNothing // all else is what came of that
	}
	u.why = fmt.Errorf("node at %s: %w", u.addr, err)
	switch {
	case u.e.ctx.Err() != nil:
	case u.ends():
		u.e.cfg.Logger.Info("a node that holds data has ended", "node", u.addr)
	default:
		u.e.cfg.Logger.Warn("a node that holds data is lost", "node", u.addr, "err", err)
	}
}

func (u *upstream) carry(ctx context.Context, cancel func(), stream peerpb.Door_ClientsClient, silent *silence) error {
	var receiving sync.WaitGroup
	defer receiving.Wait()
	defer cancel()
	got := make(chan error, 1)
	receiving.Go(func() { got <- u.receive(stream, silent) })
	beat := time.NewTicker(upstreamBeat)
	defer beat.Stop()
	first := &peerpb.FromClient{HandOver: true} // this node asks for connections when that one ends
	if err := stream.Send(first); err != nil {
		return errors.Join(err, <-got)
	}
	for {
		m := &peerpb.FromClient{}
		select {
		case m = <-u.out:
		case <-beat.C:
		case err := <-got:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := stream.Send(m); err != nil {
			return errors.Join(err, <-got) // the reason is what Recv says
		}
	}
}

func (u *upstream) receive(stream peerpb.Door_ClientsClient, silent *silence) error {
	for first := true; ; first = false {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		silent.heard()
		if first {
			close(u.opened)
		}
		if m.Conn == 0 && m.Ending != nil {
			u.leaves(m.HandsOver)
		} else if c := u.client(m); c != nil {
			c.take(m)
		}
	}
}

// leaves takes it that the node is about to end, and no client is brought there any more.
func (u *upstream) leaves(handsOver bool) {
	u.mu.Lock()
	again := u.leaving
	u.leaving = true
	u.mu.Unlock()
	if handsOver && !again {
		u.e.streams.Go(u.passOn) // the stream, which is counted, has not ended
	}
}

// ends reports whether the node is about to end, or has.
func (u *upstream) ends() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.leaving
}

// client is for whom a message is. One that is handed over is this stream's no more.
func (u *upstream) client(m *peerpb.ToClient) *remote {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.clients[m.Conn]
	if m.Handed != nil {
		delete(u.clients, m.Conn)
	}
	return c
}

// end lets go of the clients, once the stream has ended.
func (u *upstream) end() {
	u.mu.Lock()
	u.ended = true
	u.mu.Unlock()
	close(u.gone)
	u.sendAway(lost)
}

// lost is what a client is told whose node is gone.
const lost = "the node that had your sessions is lost: come back with your cur"

func (u *upstream) sendAway(why string) {
	for _, c := range u.all() {
		c.over(wire.Errorf(wire.Unavailable, "%s", why), wire.StatusGoingAway)
	}
}

// take takes in a client, that begins or that another node has handed over.
func (u *upstream) take(c *remote, h *peerpb.Handed) (at place, err error) {
	u.mu.Lock()
	if u.ended || u.leaving {
		u.mu.Unlock()
		return at, errNoDataNode
	}
	u.last++
	at = place{u, u.last}
	u.clients[at.id] = c
	u.mu.Unlock()
	u.send(&peerpb.FromClient{Conn: at.id, Begin: true, Handed: h})
	return at, nil
}

// leave takes the end of a client's socket.
func (u *upstream) leave(id uint64) {
	u.mu.Lock()
	delete(u.clients, id)
	u.mu.Unlock()
	u.send(&peerpb.FromClient{Conn: id, Ending: &peerpb.Ending{}})
}

// send waits for its turn, and reports whether the stream still stands.
func (u *upstream) send(m *peerpb.FromClient) bool {
	select {
	case u.out <- m:
		return true
	case <-u.gone:
		return false
	}
}

// place is where a connection lives: at a node, under a number.
type place struct {
	up *upstream
	id uint64
}

// remote is a client of this node whose connection lives on another.
type remote struct {
	e      *Edge
	socket *webSocket
	// turn holds where the connection lives; who has taken it may send there, and move it.
	turn   chan place
	handed chan *peerpb.Handed // what its node says to have it moved; nil: it has ended there

	mu      sync.Mutex
	waiting [][]byte // messages for the client
	bytes   int      // of them
	closing *peerpb.Ending
	asked   bool // the node with data was asked to close it
	left    bool // the client is gone

	greeted bool  // owned by line
	failed  error // owned by Work and beat
}

// line implements party.
func (c *remote) line(frame []byte, tooLong bool) bool {
	if !c.greeted && !tooLong && !c.hello(frame) {
		return false
	}
	if !c.send(&peerpb.FromClient{Line: bytes.Clone(frame), TooLong: tooLong}) {
		c.over(wire.Errorf(wire.Unavailable, lost), wire.StatusGoingAway) // before its turn came to be told
		return false
	}
	return true
}

// send sends something to where the connection lives, when it is not being moved, and reports whether the stream there stands.
func (c *remote) send(m *peerpb.FromClient) bool {
	at := <-c.turn
	defer func() { c.turn <- at }()
	m.Conn = at.id
	return at.up.send(m)
}

// hello checks who the client is; all else that a first frame may be is the other node's to judge.
func (c *remote) hello(frame []byte) bool {
	c.greeted = true
	f, err := wire.DecodeFrame(frame)
	if err != nil || f.T != "hello" {
		return true
	}
	if _, err := c.e.cfg.Auth.Authenticate(f.Token); err != nil {
		c.e.metrics.refused.WithLabelValues("token").Inc()
		c.over(wire.Errorf(wire.Unauthorized, "%v", err), wire.StatusBadToken)
		return false
	}
	return true
}

// take takes a message for the client. It never waits.
func (c *remote) take(m *peerpb.ToClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing != nil:
		return
	case m.Handed != nil:
		c.noteHanded(m.Handed)
		return
	case m.Ending != nil:
		c.closing = m.Ending
		c.noteHanded(nil)
	case c.bytes+len(m.Message) > waitingBytes:
		c.waiting, c.bytes = nil, 0
		c.closing = &peerpb.Ending{Status: uint32(wire.StatusTooSlow), Why: "too slow: come back with your cur"}
		c.e.metrics.dropped.WithLabelValues("slow_client").Inc()
	default:
		c.waiting, c.bytes = append(c.waiting, m.Message), c.bytes+len(m.Message)
	}
	c.socket.signal()
}

// noteHanded never waits: one at most is asked for at a time, and what ends is not moved.
func (c *remote) noteHanded(h *peerpb.Handed) {
	select {
	case c.handed <- h:
	default:
	}
}

// ending reports whether the connection ends anyway.
func (c *remote) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing != nil || c.left
}

// over closes the connection from here.
func (c *remote) over(why *wire.Error, status wire.Status) {
	b, err := json.Marshal(errFrame(nil, "", why))
	if err != nil {
		b = nil
	}
	c.take(&peerpb.ToClient{Message: b})
	c.take(&peerpb.ToClient{Ending: &peerpb.Ending{Status: uint32(status), Why: closeReason(why.Msg)}})
}

// Work implements party.
func (c *remote) Work() error {
	c.mu.Lock()
	waiting, closing := c.waiting, c.closing
	c.waiting, c.bytes = nil, 0
	if c.left && closing == nil && c.failed == nil {
		c.failed = errEnded
	}
	c.mu.Unlock()
	for _, m := range waiting {
		if c.failed == nil {
			c.failed = c.socket.Write(m)
		}
	}
	if closing != nil && c.failed == nil {
		c.e.metrics.closed.WithLabelValues(fmt.Sprint(closing.Status)).Inc()
		c.socket.Close(wire.Status(closing.Status), closing.Why)
		c.failed = errEnded
	}
	return c.failed
}

// beat implements party.
func (c *remote) beat() {
	if c.failed == nil {
		c.failed = c.socket.Write([]byte(`{"t":"ping"}`))
	}
	c.socket.signal()
}

// end implements party. A client that is to be told why is let go when it was, or after a while.
func (c *remote) end(why *wire.Error, status wire.Status) {
	if why == nil {
		c.mu.Lock()
		wait := c.asked && c.closing == nil
		c.mu.Unlock()
		if !wait {
			c.leave()
		} else {
			time.AfterFunc(closeTimeout, c.leave)
		}
		return
	}
	c.mu.Lock()
	c.asked = true
	c.mu.Unlock()
	if !c.send(&peerpb.FromClient{Ending: &peerpb.Ending{Status: uint32(status), Code: string(why.Code), Why: why.Msg}}) {
		c.over(why, status)
	}
}

// leave takes it that the client is gone.
func (c *remote) leave() {
	c.mu.Lock()
	c.left = true
	c.mu.Unlock()
	c.noteHanded(nil)
	c.socket.signal()
}
