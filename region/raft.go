package region

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

const (
	heartbeat     = 250 * time.Millisecond
	commitTimeout = 5 * time.Millisecond
	// snapshotsKept counts references; the state they name is in Pebble.
	snapshotsKept = 2
	// maxPool bounds Raft's connections to a peer, raftTimeout one exchange with it.
	maxPool     = 3
	raftTimeout = 2 * time.Second
)

func (r *Region) openRaft() error {
	dir := filepath.Join(r.cfg.Dir, "raft")
	r.meta = &metadb.BoltMetaDB{} // raft-wal does not close the one that it opens itself
	wal, err := raftwal.Open(dir, raftwal.WithMetaStore(r.meta), raftwal.WithLogger(raftLog(r.cfg.Logger)))
	if err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	r.wal = wal
	r.log = &stallWatch{LogStore: wal, limit: r.cfg.StallLimit, fail: r.fail, metrics: r.metrics}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, raftLog(r.cfg.Logger))
	if err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	if err := r.checkSnapshot(snaps); err != nil {
		return err
	}
	if r.cfg.Stream != nil {
		r.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: r.cfg.Stream, MaxPool: maxPool, Timeout: raftTimeout, Logger: raftLog(r.cfg.Logger),
		})
	} else {
		_, r.transport = raft.NewInmemTransport(raft.ServerAddress(r.cfg.Node))
	}
	cfg := r.raftConfig()
	known, err := raft.HasExistingState(r.log, wal, snaps)
	if err != nil {
		return fmt.Errorf("raft state: %w", err)
	}
	if !known {
		founders := raft.Configuration{Servers: []raft.Server{{ID: cfg.LocalID, Address: r.transport.LocalAddr()}}}
		if err := raft.BootstrapCluster(cfg, r.log, wal, snaps, r.transport, founders); err != nil {
			return fmt.Errorf("found the region: %w", err)
		}
	}
	r.raft, err = raft.NewRaft(cfg, r.fsm, r.log, wal, snaps, r.transport)
	return err
}

func (r *Region) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(r.cfg.Node)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = heartbeat, heartbeat, heartbeat
	c.CommitTimeout = commitTimeout
	c.NoSnapshotRestoreOnStart = true
	c.Logger = raftLog(r.cfg.Logger)
	return c
}

// checkSnapshot refuses a state that is older than what the log was cut to: a directory put together from parts.
func (r *Region) checkSnapshot(snaps raft.SnapshotStore) error {
	metas, err := snaps.List()
	if err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	if len(metas) == 0 {
		return nil
	}
	_, body, err := snaps.Open(metas[0].ID)
	if err != nil {
		return fmt.Errorf("raft snapshot: %w", err)
	}
	defer body.Close()
	var index [8]byte
	if _, err := io.ReadFull(body, index[:]); err != nil {
		return fmt.Errorf("raft snapshot: %w", err)
	}
	if want := binary.BigEndian.Uint64(index[:]); r.fsm.applied < want {
		return fmt.Errorf("the state is at entry %d but the log begins after %d: empty the directory, and the node gets "+
			"what it held from the other regions", r.fsm.applied, want)
	}
	return nil
}

// stallWatch ends the process if the disk takes too long for a write to the log: a leader that cannot write must
// not go on leading.
type stallWatch struct {
	raft.LogStore
	limit   time.Duration
	fail    func(error)
	metrics *metrics
}

// StoreLog implements raft.LogStore.
func (s *stallWatch) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *stallWatch) StoreLogs(ls []*raft.Log) error {
	start := time.Now()
	t := time.AfterFunc(s.limit, func() {
		s.fail(fmt.Errorf("the disk of --data has taken more than %s for one write: leaving rather than lead on it", s.limit))
	})
	err := s.LogStore.StoreLogs(ls)
	t.Stop()
	s.metrics.fsync.Observe(time.Since(start).Seconds())
	if err != nil {
		s.fail(fmt.Errorf("write Raft log: %w", err))
	}
	return err
}

// IsMonotonic tells Raft that the log must not have gaps.
func (s *stallWatch) IsMonotonic() bool { return true }

// Lead runs fn while this node leads its region and has applied all that was committed before. fn's context ends
// with the leadership; Lead waits for fn, and runs it again in the next term. Lead returns when ctx ends, or with
// fn's error if fn fails while it leads.
func (r *Region) Lead(ctx context.Context, fn func(context.Context) error) error {
	changes := make(chan raft.Observation, 1)
	obs := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.RaftState)
		return ok
	})
	r.raft.RegisterObserver(obs)
	defer r.raft.DeregisterObserver(obs)
	poll := time.NewTicker(heartbeat)
	defer poll.Stop()
	for {
		if r.raft.State() == raft.Leader && r.raft.Barrier(r.cfg.CommitDeadline).Error() == nil {
			if err := r.leadOnce(ctx, changes, fn); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-poll.C: // the observer drops what it cannot deliver at once
		}
	}
}

func (r *Region) leadOnce(ctx context.Context, changes <-chan raft.Observation, fn func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	poll := time.NewTicker(heartbeat)
	defer poll.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil || r.raft.State() != raft.Leader {
				return nil
			}
			if err == nil {
				err = errors.New("ended while leading")
			}
			return err
		case <-changes:
		case <-poll.C:
		}
		if r.raft.State() != raft.Leader {
			stop()
		}
	}
}
