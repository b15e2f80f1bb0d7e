package gateway

import (
	"errors"
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// unsafePut is what a client put and does not yet know to be elsewhere.
type unsafePut struct {
	session string
	oid     string
	dot     crdt.Dot
}

// heldOk is the ok of a put that asked to wait for other regions.
type heldOk struct {
	ok      *wire.Ok
	sub     *sub
	cuts    int // of sub, when it was held
	placed  []wire.Placed
	regions int
	until   time.Time
}

// await is an op that is to come to so many other regions; 0: it is to be safe. A feed comes there in order, so the first op of each that a client
// waits for tells when to look at the others; who waits for what has not moved is not woken.
type await struct {
	dot     crdt.Dot
	regions int
}

// tells reports whether another op that is to be safe can not be before this one is.
func (a await) tells(o await) bool {
	return a.regions == 0 && o.regions == 0 && a.dot.ID == o.dot.ID && a.dot.Partition == o.dot.Partition && a.dot.F <= o.dot.F
}

// reached reports whether something that the connection waits for has come to other regions, and whether an ok was held for it. It is for any
// goroutine.
func (c *Conn) reached() (some, held bool) {
	if all := c.awaits.Load(); all != nil {
		for _, a := range *all {
			if c.arrived(a) {
				some, held = true, held || a.regions > 0
			}
		}
	}
	return some, held
}

func (c *Conn) arrived(a await) bool {
	r := c.g.cfg.Peers.Reach(a.dot)
	return a.regions == 0 && r.Safe || a.regions > 0 && r.Regions >= a.regions
}

// await has the connection woken when an op has come to other regions, which it may have since it was looked at.
func (c *Conn) await(a await) {
	var all []await
	if have := c.awaits.Load(); have != nil {
		all = *have
	}
	if slices.ContainsFunc(all, func(b await) bool { return b.tells(a) }) {
		return
	}
	all = append(slices.Clip(all), a)
	c.awaits.Store(&all)
	if c.arrived(a) {
		c.recheck()
	}
}

// safeWithin is how long a client may not be told what is safe: it waits for no more than to forget it. Mostly there is something else to send before,
// and a message less for both.
const safeWithin = 100 * time.Millisecond

// safeStep is how long at least is between two times that clients are told: all of safeWithin at once would hold up everybody else.
const safeStep = 5 * time.Millisecond

// dueConn is a connection whose client is to be told something is safe, and when at the latest.
type dueConn struct {
	c  *Conn
	at time.Time
}

// Recheck has the connections whose clients wait for that look what is safe by now: other regions have acknowledged more.
func (g *Gateway) Recheck() {
	for _, c := range g.all() {
		some, held := c.reached()
		switch {
		case held:
			c.recheck()
		case some:
			g.soon(c)
		}
	}
}

// soon has a connection look with the next message to its client, or in a while.
func (g *Gateway) soon(c *Conn) {
	if c.due.Swap(true) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.due = append(g.due, dueConn{c, g.now().Add(safeWithin)}); len(g.due) == 1 {
		g.cfg.Clock.AfterFunc(safeWithin, g.tellSafe)
	}
}

// tellSafe wakes those whose time has come, and who have had nothing to send since.
func (g *Gateway) tellSafe() {
	for _, d := range g.takeDue() {
		if d.c.due.Load() {
			d.c.recheck()
		}
	}
}

// takeDue takes those whose time has come, and sees to it that the others' does.
func (g *Gateway) takeDue() []dueConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, n := g.now(), 0
	for n < len(g.due) && !g.due[n].at.After(now) {
		n++
	}
	taken := g.due[:n:n]
	if g.due = g.due[n:]; len(g.due) > 0 {
		g.cfg.Clock.AfterFunc(max(g.due[0].at.Sub(now), safeStep), g.tellSafe)
	} else {
		g.due = nil
	}
	return taken
}

// hold has an ok wait for other regions.
func (c *Conn) hold(h *heldOk) {
	c.held = append(c.held, h)
	c.awaitHeld(h)
	c.g.cfg.Clock.AfterFunc(regionsWait, c.recheck)
}

// awaitHeld waits for the first of a put's ops that is not in enough regions.
func (c *Conn) awaitHeld(h *heldOk) {
	for _, p := range h.placed {
		if a := (await{p.Dot, h.regions}); !c.arrived(a) {
			c.await(a)
			return
		}
	}
	c.recheck()
}

func (c *Conn) writeOk(ok *wire.Ok, s *sub, placed []wire.Placed, reach wire.Reach) {
	ok.Regions, ok.Safe = reach.Regions, reach.Safe
	c.writeFor(s, ok)
	if reach.Safe {
		return
	}
	for _, p := range placed {
		if len(c.unsafe) >= maxUnsafe {
			c.g.metrics.dropped.WithLabelValues("safe_untracked").Inc()
			continue
		}
		c.unsafe = append(c.unsafe, unsafePut{session: ok.S, oid: p.OID, dot: p.Dot})
		c.await(await{dot: p.Dot})
	}
}

// reachOf is how far all of a put's ops have come: the least of them counts.
func (c *Conn) reachOf(placed []wire.Placed) wire.Reach {
	all := wire.Reach{Regions: maxRegionsAsk, Safe: true}
	for _, p := range placed {
		r := c.g.cfg.Peers.Reach(p.Dot)
		all.Regions, all.Safe = min(all.Regions, r.Regions), all.Safe && r.Safe
	}
	return all
}

// reach tells the client what has become safe, and answers puts that have waited for regions.
func (c *Conn) reach() (err error) {
	c.due.Store(false)
	c.awaits.Store(nil)
	held := c.held[:0]
	for _, h := range c.held {
		r := c.reachOf(h.placed)
		if r.Regions < h.regions && c.g.now().Before(h.until) {
			held = append(held, h)
			c.awaitHeld(h)
			continue
		}
		err = errors.Join(err, c.writeHeld(h, r))
	}
	c.held = held
	kept, safe := c.unsafe[:0], map[string]*wire.Safe{}
	for _, u := range c.unsafe {
		if !c.g.cfg.Peers.Reach(u.dot).Safe {
			kept = append(kept, u)
			c.await(await{dot: u.dot})
			continue
		}
		f := safe[u.session]
		if f == nil {
			f = &wire.Safe{T: "safe", S: u.session}
			safe[u.session] = f
			c.write(f)
		}
		f.OIDs = append(f.OIDs, u.oid)
	}
	c.unsafe = kept
	return err
}
