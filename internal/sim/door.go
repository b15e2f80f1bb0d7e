package sim

import (
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/gateway"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
)

// door is a node's gateway, and what it knows of other regions.
type door struct {
	n        *node
	gw       *gateway.Gateway
	stop     func()
	conns    []*socket
	checking bool
}

var tokenKey = []byte("0123456789abcdef0123456789abcdef")

func newDoor(n *node) *door {
	d := &door{n: n}
	gw, err := gateway.New(gateway.Config{
		Region: n.g.name, Node: n.name, Backend: n, Finals: n.Finals, Held: d.Held, Peers: d, Auth: gateway.Dev{}, Keys: [][]byte{tokenKey}, Clock: d,
	})
	if err != nil {
		panic(err) // the configuration is ours
	}
	d.gw, d.stop = gw, gw.Watch()
	return d
}

// shut ends all connections with the process.
func (d *door) shut() {
	d.stop()
	for _, s := range append([]*socket{}, d.conns...) {
		s.serverGone()
	}
}

// recheck has connections look what is safe, soon.
func (d *door) recheck() {
	if d.checking {
		return
	}
	d.checking = true
	d.n.after(0, func() {
		d.checking = false
		d.gw.Recheck()
	})
}

// Now implements gateway.Clock.
func (d *door) Now() time.Time { return d.n.now() }

// AfterFunc implements gateway.Clock.
func (d *door) AfterFunc(in time.Duration, fn func()) (stop func() bool) {
	return d.n.after(in, fn).cancel
}

// Regions implements gateway.Peers.
func (d *door) Regions() (all []wire.RegionInfo) {
	for _, r := range d.n.w.regions {
		all = append(all, wire.RegionInfo{Name: r.name, URL: "ws://" + r.name + "/", State: "up"})
	}
	return all
}

// Reach implements gateway.Peers.
func (d *door) Reach(dot crdt.Dot) wire.Reach {
	n := d.n
	return feeds.Reach(n.matrix.Holders(dot, n.g.name, n.Evictions(dot.Partition)), len(n.others()), func() bool { return n.doubts(dot.Partition) })
}

// WatchReach implements gateway.Peers: Recheck is called instead.
func (d *door) WatchReach(func()) (stop func()) { return func() {} }

// Hasten implements gateway.Peers. What was waited for last comes first.
func (d *door) Hasten(partition uint8) {
	for _, n := range d.n.g.nodes {
		n.waits = 1 << partition
		for _, g := range n.w.groups {
			if s := n.links[g]; s != nil {
				s.follow(func(now time.Time) error { s.f.Prefer(n.waits, now); return nil })
			}
		}
	}
}

// socket is a client's connection to a node: a way there and back, in order.
type socket struct {
	w       *world
	dev     *device
	n       *node
	life    int
	conn    *gateway.Conn
	delay   time.Duration
	jitter  time.Duration
	there   time.Duration // when what was sent last arrives
	back    time.Duration
	lost    bool    // the network swallows everything
	gone    [2]bool // the device's end, the node's
	working bool
}

// orphaned reports whether the process that it leads to is gone: what still comes was on its way.
func (s *socket) orphaned() bool { return s.n.m == nil || s.n.life != s.life }

// connect makes a connection, unless the node does not answer.
func (n *node) connectClient(dev *device) *socket {
	if !n.up || n.paused || n.g.shut > 0 {
		return nil
	}
	s := &socket{
		w: n.w, dev: dev, n: n, life: n.life, delay: between(dev.rng, time.Millisecond, 30*time.Millisecond),
		jitter: between(dev.rng, 0, 10*time.Millisecond),
	}
	conn, err := n.door.gw.Connect(s, s.wake)
	if err != nil {
		return nil
	}
	s.conn = conn
	n.door.conns = append(n.door.conns, s)
	return s
}

// wake has the connection do what is queued.
func (s *socket) wake() {
	if s.working || s.gone[1] {
		return
	}
	s.working = true
	s.n.after(0, func() {
		s.working = false
		if !s.gone[1] && s.conn.Work() != nil {
			s.serverGone()
		}
	})
}

// Write implements gateway.Transport.
func (s *socket) Write(message []byte) error {
	m := append([]byte{}, message...)
	s.deliver(func() { s.dev.receive(s, m) })
	return nil
}

// Close implements gateway.Transport.
func (s *socket) Close(status wire.Status, reason string) {
	s.deliver(func() { s.dev.closed(s, int(status), reason) })
}

// cut reports whether nothing passes now; from then on nothing does.
func (s *socket) cut() bool {
	s.lost = s.lost || s.n.g.shut > 0
	return s.lost
}

// deliver brings something to the device, after all that was sent before.
func (s *socket) deliver(fn func()) {
	if s.cut() {
		return
	}
	s.back = max(s.back, s.w.now+s.delay+between(s.dev.rng, 0, s.jitter))
	s.w.after(s.back-s.w.now, func() {
		if !s.gone[0] && !s.cut() {
			fn()
		}
	})
}

// send brings a device's frame to the node.
func (s *socket) send(line []byte) {
	if s.cut() {
		return
	}
	s.there = max(s.there, s.w.now+s.delay+between(s.dev.rng, 0, s.jitter)+s.n.slow) // in order also when the node is slow no more
	s.n.after(s.there-s.w.now-s.n.slow, func() {
		if !s.gone[1] && !s.cut() {
			s.conn.Receive(line)
		}
	})
}

// drop ends the device's end; the node's ends when it hears of it, or by its time-out.
func (s *socket) drop() {
	if s.gone[0] {
		return
	}
	s.gone[0] = true
	d := s.delay
	if s.cut() {
		d = time.Minute
	}
	s.n.after(d, s.serverGone)
}

// serverGone ends the node's end.
func (s *socket) serverGone() {
	if s.gone[1] {
		return
	}
	s.gone[1] = true
	s.conn.End()
	for i, o := range s.n.door.conns {
		if o == s {
			s.n.door.conns = append(s.n.door.conns[:i:i], s.n.door.conns[i+1:]...)
			break
		}
	}
	s.deliver(func() { s.dev.closed(s, 0, "the connection broke") })
}
