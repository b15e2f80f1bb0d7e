package sim

import (
	"io"
	"net"
	"sync"
	"time"
)

// duplex is one end of a connection in memory that takes what is written at once, as a socket with a large buffer does.
type duplex struct{ in, out *half }

// half is one direction.
type half struct {
	mu     sync.Mutex
	filled sync.Cond
	buf    []byte
	ended  bool
}

func newDuplex() (a, b *duplex) {
	x, y := &half{}, &half{}
	x.filled.L, y.filled.L = &x.mu, &y.mu
	return &duplex{x, y}, &duplex{y, x}
}

// Read implements net.Conn.
func (d *duplex) Read(b []byte) (int, error) {
	h := d.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.buf) == 0 {
		if h.ended {
			return 0, io.EOF
		}
		h.filled.Wait()
	}
	n := copy(b, h.buf)
	h.buf = h.buf[n:]
	return n, nil
}

// Write implements net.Conn.
func (d *duplex) Write(b []byte) (int, error) {
	h := d.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return 0, io.ErrClosedPipe
	}
	h.buf = append(h.buf, b...)
	h.filled.Signal()
	return len(b), nil
}

// Close implements net.Conn.
func (d *duplex) Close() error {
	for _, h := range []*half{d.in, d.out} {
		h.mu.Lock()
		h.ended = true
		h.filled.Broadcast()
		h.mu.Unlock()
	}
	return nil
}

type memAddr struct{}

func (memAddr) Network() string { return "mem" }
func (memAddr) String() string  { return "mem" }

// LocalAddr implements net.Conn.
func (*duplex) LocalAddr() net.Addr { return memAddr{} }

// RemoteAddr implements net.Conn.
func (*duplex) RemoteAddr() net.Addr { return memAddr{} }

// SetDeadline implements net.Conn: nobody waits here by the machine's clock.
func (*duplex) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (*duplex) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (*duplex) SetWriteDeadline(time.Time) error { return nil }
