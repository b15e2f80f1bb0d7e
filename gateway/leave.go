package gateway

import (
	"time"

	"github.com/roamsync/roam/wire"
)

const (
	// moveEach is the time between two clients' moments to go when the node ends, and moveSpread what that is for all of them at most: where they go they
	// do not come all at once.
	moveEach   = 500 * time.Microsecond
	moveSpread = 2 * time.Second
	// moveGrace is how long a client may take from its moment until it is elsewhere. One that does not know of moves stays for as long.
	moveGrace = 2 * time.Second
)

// sendOn sends clients to other nodes of the region, each at a moment of its own, and serves them until they have gone: they connect there before they
// leave, so nobody is without a node. Those at edges are not sent: their edge asks for their connections and has them served by another node.
func (g *Gateway) sendOn() {
	if len(g.cfg.Heirs(0)) == 0 {
		return
	}
	all, begun := g.here(), g.now()
	spread := spreadOver(len(g.all()))
	for i, c := range all {
		after := spread * time.Duration(i) / time.Duration(len(all))
		c.send(item{kind: itemMove, frame: &wire.Move{T: "move", To: g.cfg.Heirs(i), After: after.Milliseconds(), Why: "drain"}})
	}
	over, stay, grace := make(chan struct{}), g.staying(), moveGrace
	if stay > len(all) { // their puts are answered first
		grace = passOnWait
	}
	defer g.cfg.Clock.AfterFunc(spread+grace, func() { close(over) })()
	for waiting := true; waiting && stay > 0; stay = g.staying() {
		select {
		case <-g.left:
		case <-over:
			waiting = false
		}
	}
	g.cfg.Logger.Info("clients were sent to other nodes", "clients", len(all), "stayed", stay, "took", g.now().Sub(begun))
}

// spreadOver is over how long so many clients are moved.
func spreadOver(clients int) time.Duration { return min(time.Duration(clients)*moveEach, moveSpread) }

// staying is how many connections are still to go elsewhere.
func (g *Gateway) staying() (n int) {
	for _, c := range g.all() {
		if x, far := c.t.(*guest); !far || x.door.takesOn.Load() {
			n++
		}
	}
	return n
}

// here are the connections whose sockets this node has.
func (g *Gateway) here() (all []*Conn) {
	for _, c := range g.all() {
		if !c.far {
			all = append(all, c)
		}
	}
	return all
}
