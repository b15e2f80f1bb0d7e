package app

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/roamsync/roam/wire/peerpb"
)

// abroad is what dispatch asks about other regions and about this one's clients, whichever node they are connected to.
type abroad struct{ n *node }

// Gone implements dispatch.Abroad.
func (a abroad) Gone(group uint32, after time.Duration) []string {
	return a.n.links.Gone(a.n.region.Partitions(int(group)), after)
}

// Followed implements dispatch.Abroad: it asks all nodes that hold data at the same time. Nodes without data have their sessions there.
func (a abroad) Followed(ctx context.Context, sessions []string) []string {
	nodes := a.n.pool.DataNodes()
	found := make([][]string, len(nodes)+1)
	found[len(nodes)] = a.n.gateway.Open(sessions)
	var asked sync.WaitGroup
	for i, addr := range nodes {
		asked.Go(func() { found[i] = a.ask(ctx, addr, sessions) })
	}
	asked.Wait()
	return slices.Concat(found...)
}

func (a abroad) ask(ctx context.Context, addr string, sessions []string) []string {
	door, err := a.n.links.Door(addr)
	if err == nil {
		var reply *peerpb.FollowedReply
		if reply, err = door.Followed(ctx, &peerpb.FollowedRequest{Sessions: sessions}); err == nil {
			return reply.Sessions
		}
	}
	if ctx.Err() == nil {
		a.n.log.Debug("ask who follows sessions", "addr", addr, "err", err)
	}
	return nil
}
