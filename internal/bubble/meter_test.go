package bubble

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// What a network adds: IPv4 and UDP, or IPv4 and TCP with time stamps.
const (
	packetCost  = 20 + 8
	segmentCost = 20 + 20 + 12
	// openings is how many segments without content it takes to open a connection and to close it.
	openings = 7
)

// meter counts what crosses between regions, in bytes on the wire: each write is taken for a segment of its own, which is
// acknowledged by one without content. That is the dearest that TCP makes of it.
type meter struct{ streams, packets atomic.Int64 }

// traffic are the meters of all pairs of regions, by the names of both, in order.
type traffic struct {
	mu    sync.Mutex
	pairs map[string]*meter
}

func (t *traffic) between(a, b string) *meter {
	if a > b {
		a, b = b, a
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pairs == nil {
		t.pairs = map[string]*meter{}
	}
	if t.pairs[a+" "+b] == nil {
		t.pairs[a+" "+b] = &meter{}
	}
	return t.pairs[a+" "+b]
}

// meter is for what goes from a node to an address; nil: that is in its own region, or no node's.
func (n *node) meter(addr string) *meter {
	host, _, _ := strings.Cut(addr, ":")
	for _, s := range n.w.regions {
		for _, o := range s.nodes {
			if o.host == host && s != n.s {
				return n.w.traffic.between(n.s.name, s.name)
			}
		}
	}
	return nil
}

// metered is a connection from one region to another, at the side that has opened it.
type metered struct {
	net.Conn
	m *meter
}

func (n *node) metered(c net.Conn, addr string) net.Conn {
	m := n.meter(addr)
	if m == nil || c == nil {
		return c
	}
	m.streams.Add(openings * segmentCost)
	return metered{c, m}
}

func (c metered) count(bytes int) {
	if bytes > 0 {
		c.m.streams.Add(int64(bytes + 2*segmentCost))
	}
}

// Read implements net.Conn.
func (c metered) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.count(n)
	return n, err
}

// Write implements net.Conn.
func (c metered) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.count(n)
	return n, err
}

// gossip is a member's transport, metered.
type gossip struct {
	memberlist.Transport
	n *node
}

// WriteTo implements memberlist.Transport.
func (g gossip) WriteTo(b []byte, addr string) (time.Time, error) {
	if m := g.n.meter(addr); m != nil {
		m.packets.Add(int64(len(b) + packetCost))
	}
	return g.Transport.WriteTo(b, addr)
}

// DialTimeout implements memberlist.Transport.
func (g gossip) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	c, err := g.Transport.DialTimeout(addr, timeout)
	if err != nil {
		return nil, err
	}
	return g.n.metered(c, addr), nil
}
