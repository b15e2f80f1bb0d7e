package memnet

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxPackets bounds the packets of one transport that are under way; more are lost, and counted.
const maxPackets = 4096

// Transport is a memberlist.Transport whose packets and streams cross the network.
type Transport struct {
	memberlist.Transport // the one underneath
	net                  *Network
	from                 string
	flying               atomic.Int64
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// Transport wraps the transport of a member in a region. Only what it sends is delayed, and both directions of the
// streams that it opens: the other side has a wrapper of its own.
func (n *Network) Transport(from string, inner memberlist.Transport) *Transport {
	return &Transport{Transport: inner, net: n, from: from}
}

// WriteTo implements memberlist.Transport. An error is returned only within the region; elsewhere the packet is
// under way by then.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	l := t.net.linkTo(t.from, a.Addr)
	if l == nil {
		return t.send(b, a)
	}
	now := time.Now()
	if _, cut, _ := l.state(); cut != Open {
		t.net.dropped.Add(1)
		return now, nil
	}
	b = append([]byte(nil), b...)
	due := l.packet(now, len(b))
	if len(due) == 0 {
		t.net.dropped.Add(1)
	}
	for _, at := range due {
		if t.flying.Add(1) > maxPackets {
			t.flying.Add(-1)
			t.net.dropped.Add(1)
			continue
		}
		time.AfterFunc(at.Sub(now), func() { t.arrive(l, b, a) })
	}
	return now, nil
}

// arrive hands a packet over at its destination, unless the link was cut meanwhile.
func (t *Transport) arrive(l *link, b []byte, a memberlist.Address) {
	defer t.flying.Add(-1)
	if _, cut, _ := l.state(); cut != Open {
		t.net.dropped.Add(1)
		return
	}
	if _, err := t.send(b, a); err != nil {
		t.net.dropped.Add(1)
	}
}

func (t *Transport) send(b []byte, a memberlist.Address) (time.Time, error) {
	if aware, ok := t.Transport.(memberlist.NodeAwareTransport); ok {
		return aware.WriteToAddress(b, a)
	}
	return t.Transport.WriteTo(b, a.Addr)
}

// DialTimeout implements memberlist.Transport.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.net.dial(ctx, t.from, a.Addr, func(ctx context.Context, _ string) (net.Conn, error) {
		until, _ := ctx.Deadline()
		if aware, ok := t.Transport.(memberlist.NodeAwareTransport); ok {
			return aware.DialAddressTimeout(a, time.Until(until))
		}
		return t.Transport.DialTimeout(a.Addr, time.Until(until))
	})
}

// linkTo returns the link to an address, nil if there is none between.
func (n *Network) linkTo(from, address string) *link {
	n.mu.Lock()
	to, known := n.places[address]
	n.mu.Unlock()
	if !known || to == from {
		return nil
	}
	return n.link(from, to)
}
