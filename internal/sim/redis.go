package sim

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// redis is a region's Redis: a real server of its protocol, in memory, in virtual time.
type redis struct {
	g       *group
	mini    *miniredis.Miniredis
	down    bool
	conns   []net.Conn
	touched atomic.Bool // something was added to a stream since the others were woken
}

func newRedis(g *group) *redis {
	r := &redis{g: g, mini: miniredis.NewMiniRedis()}
	r.mini.Seed(int(g.w.seed))
	r.mini.ClockTTL(true)
	r.tick()
	if c, err := r.mini.Dial(); err == nil { // begins to serve
		_ = c.Close()
	}
	return r
}

// tick tells Redis the time. Its clock never goes back.
func (r *redis) tick() { r.mini.SetTime(r.g.w.time()) }

// dial makes a connection, in memory. It is called by a goroutine of the client's that the caller waits for.
func (r *redis) dial(context.Context, string, string) (net.Conn, error) {
	if r.down {
		return nil, errors.New("nobody is there")
	}
	ours, theirs := newDuplex()
	r.mini.Server().ServeConn(theirs)
	r.conns = append(r.conns, ours)
	return tapped{ours, r}, nil
}

// tapped notes when something is added to a stream: whoever reads it looks soon.
type tapped struct {
	net.Conn
	r *redis
}

func (t tapped) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("xadd")) || bytes.Contains(b, []byte("XADD")) {
		t.r.touched.Store(true)
	}
	return t.Conn.Write(b)
}

// wake has whoever reads from Redis look, if something was added.
func (r *redis) wake() {
	if !r.touched.Swap(false) {
		return
	}
	for _, wk := range r.g.workers {
		wk.soon(between(r.g.rng, 200*time.Microsecond, 3*time.Millisecond))
	}
	if l := r.g.lead(); l != nil && l.lead != nil {
		l.lead.readSoon(between(r.g.rng, 200*time.Microsecond, 3*time.Millisecond))
	}
}

// wipe loses everything.
func (r *redis) wipe() { r.mini.FlushAll() }

// part breaks all connections, and lets nobody have another.
func (r *redis) part() {
	r.down = true
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func (r *redis) close() {
	r.part()
	r.mini.Close()
}
