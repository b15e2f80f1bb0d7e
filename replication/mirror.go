package replication

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire/peerpb"
)

// reachEvery is how often at most the matrix goes to the other nodes of the region.
const reachEvery = 20 * time.Millisecond

// Reach implements peerpb.PeerServer: the leader, whom other regions acknowledge to, tells the rest of its region.
func (l *Links) Reach(_ *peerpb.ReachRequest, stream grpc.ServerStreamingServer[peerpb.Rows]) error {
	wake := make(chan struct{}, 1)
	defer l.cfg.Pool.matrix.watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})()
	sent := map[rowOf]feeds.Row{}
	beat := time.NewTicker(headsEvery)
	defer beat.Stop()
	for {
		if !l.cfg.Leads() {
			return l.notLeader(stream)
		}
		if grown := l.cfg.Pool.matrix.since(sent); len(grown.Rows) > 0 {
			if err := stream.Send(grown); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-l.done:
			return nil
		case <-beat.C:
			continue
		case <-wake:
		}
		select {
		case <-stream.Context().Done():
		case <-time.After(reachEvery):
		}
	}
}

// rowOf names a row of the matrix.
type rowOf struct {
	region string
	origin crdt.OriginID
}

// since returns the rows that differ from what was sent, and notes them there.
func (m *matrix) since(sent map[rowOf]feeds.Row) *peerpb.Rows {
	m.mu.Lock()
	defer m.mu.Unlock()
	grown := &peerpb.Rows{}
	m.known.Rows(func(region string, id crdt.OriginID, r feeds.Row) {
		if of := (rowOf{region, id}); sent[of] != r {
			sent[of] = r
			grown.Rows = append(grown.Rows, &peerpb.Row{Region: region, Origin: uint32(id), F: r[:]})
		}
	})
	return grown
}

// Mirror keeps this node's matrix like the leader's while another node leads, until ctx ends.
func (l *Links) Mirror(ctx context.Context) error {
	for {
		if addr := l.cfg.Leader(); addr != "" {
			if err := l.mirror(ctx, addr); err != nil && ctx.Err() == nil {
				l.cfg.Logger.Debug("matrix of the leader", "addr", addr, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(headsEvery):
		}
	}
}

func (l *Links) mirror(ctx context.Context, addr string) error {
	conn, err := l.conns.To(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := peerpb.NewPeerClient(conn).Reach(ctx, &peerpb.ReachRequest{})
	if err != nil {
		return err
	}
	for {
		rows, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, r := range rows.Rows {
			if crdt.ValidRegion(r.Region) && r.Region != l.cfg.Region {
				l.cfg.Pool.matrix.heads(r.Region, crdt.OriginID(r.Origin), r.F)
			}
		}
	}
}
