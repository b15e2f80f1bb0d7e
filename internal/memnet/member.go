package memnet

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// ErrGone is why a connection with a region that has vanished fails.
var ErrGone = errors.New("the machine is gone")

// maxArrived bounds the packets that a member has not taken yet; more are lost, and counted.
const maxArrived = 1024

// memberTransport is a memberlist.Transport that is wholly in memory: nothing that it sends ever waits for who receives it.
type memberTransport struct {
	net      *Network
	addr     addr
	listener net.Listener
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	closed   chan struct{}
	once     sync.Once // closes closed
	accepts  sync.WaitGroup
}

// Member returns the transport of a member at an address, host and port, which is placed in a region. Its packets and
// streams cross the network, in memory.
func (n *Network) Member(region, address string) (*Transport, error) {
	l, err := n.Listen(region, address)
	if err != nil {
		return nil, err
	}
	m := &memberTransport{
		net: n, addr: addr(address), listener: l, packets: make(chan *memberlist.Packet, maxArrived),
		streams: make(chan net.Conn), closed: make(chan struct{}),
	}
	n.mu.Lock()
	n.members[address] = m
	n.mu.Unlock()
	m.accepts.Go(m.accept)
	return n.Transport(region, m), nil
}

// Vanish is a machine that loses power: what listens in a region is gone, and all connections from and to it end at once.
// The region is reached again where somebody listens there again; the members of before send nothing any more.
func (n *Network) Vanish(region string) {
	n.mu.Lock()
	var gone []*listener
	for address, l := range n.listeners {
		if n.places[address] == region {
			gone = append(gone, l)
			delete(n.listeners, address)
			delete(n.members, address)
		}
	}
	var cut []*conn
	for c := range n.conns {
		if c.forth.from == region || c.forth.to == region {
			cut = append(cut, c)
		}
	}
	n.mu.Unlock()
	for _, l := range gone {
		l.shut()
	}
	for _, c := range cut {
		c.abort(ErrGone)
	}
}

// accept hands streams on until Shutdown.
func (m *memberTransport) accept() {
	for {
		c, err := m.listener.Accept()
		if err != nil {
			return
		}
		select {
		case m.streams <- c:
		case <-m.closed:
			c.Close()
			return
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (m *memberTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	host, port, err := net.SplitHostPort(string(m.addr))
	if err != nil {
		return nil, 0, err
	}
	p, err := strconv.Atoi(port)
	if ip := net.ParseIP(host); ip != nil && err == nil {
		return ip, p, nil
	}
	return nil, 0, fmt.Errorf("memnet: member at %s: an IP address and a port are needed", m.addr)
}

// WriteTo implements memberlist.Transport. A packet to nobody is lost, as with UDP.
func (m *memberTransport) WriteTo(b []byte, address string) (time.Time, error) {
	now := time.Now()
	m.net.mu.Lock()
	here, to := m.net.members[string(m.addr)], m.net.members[address]
	m.net.mu.Unlock()
	if here != m || to == nil {
		m.net.dropped.Add(1)
		return now, nil
	}
	select {
	case to.packets <- &memberlist.Packet{Buf: append([]byte(nil), b...), From: m.addr, Timestamp: now}:
	default:
		m.net.dropped.Add(1)
	}
	return now, nil
}

// PacketCh implements memberlist.Transport.
func (m *memberTransport) PacketCh() <-chan *memberlist.Packet { return m.packets }

// DialTimeout implements memberlist.Transport.
func (m *memberTransport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	m.net.mu.Lock()
	here, l := m.net.members[string(m.addr)], m.net.listeners[address]
	m.net.mu.Unlock()
	if here != m || l == nil {
		return nil, &net.OpError{Op: "dial", Net: "memnet", Addr: addr(address), Err: net.ErrClosed}
	}
	return l.dialFor(timeout)
}

// StreamCh implements memberlist.Transport.
func (m *memberTransport) StreamCh() <-chan net.Conn { return m.streams }

// Shutdown implements memberlist.Transport.
func (m *memberTransport) Shutdown() error {
	m.net.mu.Lock()
	if m.net.members[string(m.addr)] == m {
		delete(m.net.members, string(m.addr))
	}
	m.net.mu.Unlock()
	m.once.Do(func() { close(m.closed) })
	err := m.listener.Close()
	m.accepts.Wait()
	return err
}
