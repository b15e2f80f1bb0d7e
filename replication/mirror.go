package replication

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire/peerpb"
)

// reachEvery is how often at most the matrix goes to the other nodes of the region.
const reachEvery = 20 * time.Millisecond

// heardEvery is how often a leader tells them which regions it hears.
const heardEvery = time.Second

// Reach implements peerpb.PeerServer: a leader, whom other regions acknowledge to, tells the rest of its region.
func (l *Links) Reach(_ *peerpb.ReachRequest, stream grpc.ServerStreamingServer[peerpb.Rows]) error {
	wake := make(chan struct{}, 1)
	defer l.cfg.Pool.matrix.watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})()
	sent, said := map[rowOf]toldRow{}, time.Time{}
	beat := time.NewTicker(headsEvery)
	defer beat.Stop()
	for {
		if l.cfg.Lead.Led() == 0 {
			return l.notLeader(stream, feeds.All)
		}
		grown := l.cfg.Pool.matrix.since(sent)
		if now := time.Now(); now.Sub(said) >= heardEvery {
			grown.Heard, said = l.cfg.Pool.matrix.hearing(now), now
		}
		if len(grown.Rows)+len(grown.Heard) > 0 {
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

// toldRow is a row as it was sent.
type toldRow struct{ epochs, f feeds.Row }

// since returns the rows that differ from what was sent, and notes them there.
func (m *matrix) since(sent map[rowOf]toldRow) *peerpb.Rows {
	m.mu.Lock()
	defer m.mu.Unlock()
	grown := &peerpb.Rows{}
	m.known.Rows(func(region string, epochs *feeds.Row, id crdt.OriginID, r feeds.Row) {
		if of, now := (rowOf{region, id}), (toldRow{*epochs, r}); sent[of] != now {
			sent[of] = now
			grown.Rows = append(grown.Rows, feeds.RowsOf(region, epochs, id, &r, feeds.All)...)
		}
	})
	return grown
}

// Mirror keeps this node's matrix like those of the other nodes that lead a group, until ctx ends.
func (l *Links) Mirror(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ended, mirrored := make(chan string), map[string]bool{}
	look := time.NewTicker(headsEvery)
	defer look.Stop()
	for {
		for _, addr := range l.cfg.Lead.Leaders() {
			if mirrored[addr] {
				continue
			}
			mirrored[addr] = true
			running.Go(func() {
				if err := l.mirror(ctx, addr); err != nil && ctx.Err() == nil {
					l.cfg.Logger.Debug("matrix of a leader", "addr", addr, "err", err)
				}
				select {
				case ended <- addr:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case addr := <-ended:
			delete(mirrored, addr)
			if !wait(ctx, headsEvery) {
				return nil
			}
		case <-look.C:
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
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
		l.cfg.Pool.matrix.rows(rows.Rows, l.cfg.Region)
		l.cfg.Pool.matrix.listenTo(rows.Heard, time.Now())
	}
}
