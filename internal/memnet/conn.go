package memnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// conn is the dialing side of a connection between regions.
type conn struct {
	net.Conn          // the connection underneath
	out, in  *lane    // what this side wrote, what the other side wrote
	done     func()   // called once when both pumps have ended
	forth    pair     // the link of out
	read     deadline // for Read
	write    deadline // for Write
	pumps    sync.WaitGroup
}

// newConn starts the pumps; they end when the connection does, and done is called then.
func newConn(inner net.Conn, forth pair, out, in *link, done func(*conn)) *conn {
	c := &conn{Conn: inner, forth: forth, out: newLane(out), in: newLane(in)}
	c.done = func() { done(c) }
	c.pumps.Go(c.pumpOut)
	c.pumps.Go(c.pumpIn)
	go func() {
		c.pumps.Wait()
		c.done()
	}()
	return c
}

// pumpOut writes to the connection underneath what has arrived there.
func (c *conn) pumpOut() {
	defer c.Conn.Close()
	buf := make([]byte, segmentBytes)
	for {
		n, err := c.out.take(buf, nil)
		if err != nil {
			return
		}
		if _, err := c.Conn.Write(buf[:n]); err != nil {
			c.tell(err)
			return
		}
	}
}

// tell has who writes learn that the other side is gone, once the news has come back over the link.
func (c *conn) tell(err error) {
	delay, _, _ := c.in.link.state()
	due := time.Now().Add(delay)
	for {
		over, changed := c.out.over()
		_, cut, moved := c.in.link.state()
		wait := time.Until(due)
		switch {
		case over:
			return
		case cut == Break || cut == Open && wait <= 0:
			c.out.fail(err)
			return
		case cut == Stall:
			wait = 0 // until that has an end
		}
		await(wait, changed, moved, nil)
	}
}

// pumpIn starts the delay of what the other side wrote.
func (c *conn) pumpIn() {
	buf := make([]byte, segmentBytes)
	for {
		n, err := c.Conn.Read(buf)
		if n > 0 && c.in.put(buf[:n], nil) != nil {
			return
		}
		if err != nil {
			c.in.end(err)
			return
		}
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.take(p, c.read.wait())
	return n, c.opError("read", err)
}

// Write implements net.Conn: it returns when all is under way.
func (c *conn) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		piece := p[sent:min(len(p), sent+segmentBytes)]
		if err := c.out.put(piece, c.write.wait()); err != nil {
			return sent, c.opError("write", err)
		}
		sent += len(piece)
	}
	return sent, nil
}

func (c *conn) opError(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "memnet", Addr: c.RemoteAddr(), Err: err}
}

// Close implements net.Conn. What was written still arrives.
func (c *conn) Close() error {
	c.in.fail(net.ErrClosed)
	c.out.end(net.ErrClosed)
	return nil
}

// abort ends the connection at once, on both sides.
func (c *conn) abort(err error) {
	c.in.fail(err)
	c.out.fail(err)
	c.Conn.Close()
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.read.set(t)
	c.write.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { c.read.set(t); return nil }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { c.write.set(t); return nil }
