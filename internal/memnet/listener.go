package memnet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// backlog bounds the connections that wait for Accept; more wait in their dial.
const backlog = 128

// listener accepts in memory.
type listener struct {
	addr   addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	leave  func()
}

type addr string

func (addr) Network() string  { return "memnet" }
func (a addr) String() string { return string(a) }

// Listen serves an address in memory and places it in a region.
func (n *Network) Listen(region, address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.listeners[address] != nil {
		return nil, fmt.Errorf("memnet: listen at %s: the address is taken, or the network closed", address)
	}
	l := &listener{addr: addr(address), conns: make(chan net.Conn, backlog), closed: make(chan struct{})}
	l.leave = func() { n.unlisten(address, l) }
	n.listeners[address] = l
	n.places[address] = region
	return l, nil
}

func (n *Network) unlisten(address string, l *listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[address] == l {
		delete(n.listeners, address)
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "memnet", Addr: l.addr, Err: net.ErrClosed}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }

// Close implements net.Listener.
func (l *listener) Close() error {
	l.leave()
	l.shut()
	return nil
}

// shut refuses who waits and who comes.
func (l *listener) shut() {
	l.once.Do(func() { close(l.closed) })
	for {
		select {
		case c := <-l.conns:
			c.Close()
		default:
			return
		}
	}
}

// dial hands one end of a pipe to Accept. Within a region the pipe has no buffer of its own.
func (l *listener) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- named{there, l.addr}:
		return named{here, l.addr}, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "memnet", Addr: l.addr, Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dialFor is dial for so long.
func (l *listener) dialFor(d time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return l.dial(ctx)
}

// named is a pipe that knows the address it goes to.
type named struct {
	net.Conn
	addr addr
}

func (c named) RemoteAddr() net.Addr { return c.addr }
