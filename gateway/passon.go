package gateway

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// passOnAtOnce bounds the clients of a node that are being brought to others at a time.
	passOnAtOnce = 64
	// passOnWait is how long the node that ends may take to hand a client's connection over: puts are answered first, also those that wait for other regions.
	passOnWait = regionsWait + 3*time.Second
)

// passOn brings the clients of a node that ends to others, without their noticing. Those that come meanwhile are brought elsewhere anyway.
func (u *upstream) passOn() {
	all := u.all()
	each := spreadOver(len(all)) / time.Duration(max(len(all), 1))
	begun, next := time.Now(), time.NewTicker(max(each, time.Microsecond))
	defer next.Stop()
	var group errgroup.Group
	group.SetLimit(passOnAtOnce)
	for _, c := range all {
		group.Go(func() error {
			c.passOn()
			return nil
		})
		select {
		case <-next.C:
		case <-u.gone:
		}
	}
	_ = group.Wait()
	u.e.cfg.Logger.Info("clients of a node that ends were brought to others", "node", u.addr, "clients", len(all), "took", time.Since(begun))
}

// all are the clients that the node serves.
func (u *upstream) all() []*remote {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Values(u.clients))
}

// passOn brings the client to another node. Nothing of it is sent meanwhile. If that cannot be, it comes back by itself.
func (c *remote) passOn() {
	from := <-c.turn
	to := from
	defer func() { c.turn <- to }()
	if c.ending() {
		return
	}
	ctx, cancel := context.WithTimeout(c.e.ctx, passOnWait)
	defer cancel()
	_, err := c.e.upstream(ctx) // there is one, before anything is given up
	if err == nil {
		if h := c.askedFor(ctx, from); h != nil {
			to, err = c.e.place(ctx, c, h)
		} else {
			err = errNoDataNode
		}
	}
	outcome := "moved"
	if err != nil {
		outcome, to = "failed", from
		c.over(wire.Errorf(wire.Unavailable, "the node that has your sessions is going away: come back with your cur"), wire.StatusGoingAway)
	}
	c.e.metrics.handed.WithLabelValues(outcome).Inc()
}

// askedFor asks for the connection; nil: there is none any more.
func (c *remote) askedFor(ctx context.Context, at place) *peerpb.Handed {
	if !at.up.send(&peerpb.FromClient{Conn: at.id, HandOver: true}) {
		return nil
	}
	select {
	case h := <-c.handed:
		return h
	case <-at.up.gone:
		select {
		case h := <-c.handed: // it came before
			return h
		default:
			return nil
		}
	case <-ctx.Done():
		return nil
	}
}
