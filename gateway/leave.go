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
// leave, so nobody is without a node. Those at nodes without data are not sent: their node knows where to have them served.
func (g *Gateway) sendOn() {
	if len(g.cfg.Heirs(0)) == 0 {
		return
	}
	all, begun := g.here(), g.now()
	spread := min(time.Duration(len(all))*moveEach, moveSpread)
	for i, c := range all {
		after := spread * time.Duration(i) / time.Duration(len(all))
		c.send(item{kind: itemMove, frame: &wire.Move{T: "move", To: g.cfg.Heirs(i), After: after.Milliseconds(), Why: "drain"}})
	}
	over := make(chan struct{})
	defer g.cfg.Clock.AfterFunc(spread+moveGrace, func() { close(over) })()
	stay := len(all)
	for waiting := true; waiting && stay > 0; stay = len(g.here()) {
		select {
		case <-g.left:
		case <-over:
			waiting = false
		}
	}
	g.cfg.Logger.Info("clients were sent to other nodes", "clients", len(all), "stayed", stay, "took", g.now().Sub(begun))
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
