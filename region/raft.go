package region

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// heartbeat is after how long without a word of the leader Raft would elect by itself, sooner or later; lease after how long without a majority's
	// word a leader gives up, and the least silence after which a follower does: see notice.
	heartbeat = 300 * time.Millisecond
	lease     = 250 * time.Millisecond
	// commitTimeout is when the others learn of a commit that neither an entry nor a nudge has told them of. It also is
	// how often an idle leader sends to each of them: with more groups it is more seldom, up to four times.
	commitTimeout = 25 * time.Millisecond
	// snapshotLook is how often Raft looks whether the log is to be cut.
	snapshotLook = 10 * time.Second
	// snapshotsKept counts references; the state they name is in Pebble.
	snapshotsKept = 2
	// maxPool bounds Raft's connections to a peer, raftTimeout one exchange with it.
	maxPool     = 3
	raftTimeout = 2 * time.Second
	// maxAppend is how many entries go to another node at once.
	maxAppend = 64
)

// openRaft begins to take part in the group.
func (g *group) openRaft() error {
	switch {
	case g.r.lanes != nil:
		g.transport = &leaping{g.network(g.r.lanes.of(g.n)), g}
	case g.r.cfg.Stream != nil:
		g.transport = &leaping{g.network(g.r.cfg.Stream(g.r.id)), g}
	default:
		_, g.transport = raft.NewInmemTransport(raft.ServerAddress(g.r.id))
	}
	cfg := g.raftConfig()
	if err := g.foundAlone(cfg); err != nil {
		return fmt.Errorf("found the region: %w", err)
	}
	var err error
	if g.fsm.held, err = g.log.LastIndex(); err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	if g.raft, err = g.newRaft(cfg); err == nil {
		g.opened.Store(g.raft)
	}
	return err
}

func (g *group) network(stream raft.StreamLayer) *transport {
	leads := func() bool {
		id, _ := g.leader.now()
		return id == g.r.id
	}
	return &transport{leads: leads, stopping: g.r.stopping.Done(), NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: &ending{StreamLayer: stream, closed: make(chan struct{})}, MaxPool: maxPool, Timeout: raftTimeout, Logger: raftLog(g.r.cfg.Logger),
	})}
}

// newRaft reads the log, at which Raft panics if it cannot be read.
func (g *group) newRaft(cfg *raft.Config) (_ *raft.Raft, err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("the Raft log cannot be read: %v: restore the directory, or empty it, and the node gets what it "+
				"held from the others", why)
		}
	}()
	return raft.NewRaft(cfg, g.fsm, g.log, g.stable, g.snaps, g.transport)
}

func (g *group) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.r.id)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = heartbeat, heartbeat, lease
	c.CommitTimeout = commitTimeout * time.Duration(min(g.r.count, 4))
	c.MaxAppendEntries = maxAppend
	c.NoSnapshotRestoreOnStart = true
	c.ShutdownOnRemove = false // the node says itself when it ends
	c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = g.r.cfg.SnapshotEntries, g.r.cfg.TrailingEntries, snapshotLook
	c.Logger = raftLog(g.r.cfg.Logger)
	return c
}

// checkSnapshot refuses a state that is older than what the log was cut to: a directory put together from parts.
func (g *group) checkSnapshot() error {
	metas, err := g.snaps.List()
	if err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	if len(metas) == 0 {
		return nil
	}
	_, body, err := g.snaps.Open(metas[0].ID)
	if err != nil {
		return fmt.Errorf("raft snapshot: %w", err)
	}
	defer body.Close()
	want, err := readReference(body)
	if err != nil {
		return err
	}
	if have := g.fsm.Applied(); have < want {
		return fmt.Errorf("%w: the state is at entry %d but the log begins after %d: empty the directory, and the node gets "+
			"what it held from the others", errTorn, have, want)
	}
	return nil
}

// checkLog refuses a log that ends before the state does: entries that this node has acknowledged are gone from it, since
// raft-wal, like Pebble, takes a block that does not read back for the end. A state that was taken from another node may be ahead.
func (g *group) checkLog() error {
	last, err := g.log.LastIndex()
	if err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	taken, err := g.taken()
	if err != nil {
		return err
	}
	if have := g.fsm.Applied(); last < have && have > taken {
		return fmt.Errorf("%w: the log ends at entry %d, but %d was applied: the disk of --data has lost or damaged part of it. "+
			"Restore the directory, or empty it, and the node gets what it held from the others", errTorn, last, have)
	}
	return nil
}

var errTorn = errors.New("state and log do not belong together")

// stallWatch ends the process if the disk takes too long for a write to the log: a leader that cannot write must
// not go on leading.
type stallWatch struct {
	raft.LogStore
	limit   time.Duration
	fail    func(error)
	quit    func(error) // fails, and does not return
	damaged func(where string, why error) error
	metrics *metrics
	cutBack func(from uint64, all bool)
	size    logSize
}

// GetLog implements raft.LogStore. raft-wal still gives entries that were cut, as long as their segment has others: a
// node that lacks them must get the state instead, whichever it is.
func (s *stallWatch) GetLog(index uint64, l *raft.Log) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	if index < first {
		return raft.ErrLogNotFound
	}
	err = s.LogStore.GetLog(index, l)
	s.check(index, err)
	return err
}

// StoreLog implements raft.LogStore.
func (s *stallWatch) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *stallWatch) StoreLogs(ls []*raft.Log) error {
	start := time.Now()
	t := newStallTimer(s.limit, s.tooLate)
	err := s.LogStore.StoreLogs(ls)
	t.stop()
	s.size.add(ls)
	s.metrics.fsync.Observe(time.Since(start).Seconds())
	if err != nil {
		s.fail(diskError("write Raft log", err))
	}
	return err
}

// IsMonotonic tells Raft that the log must not have gaps.
func (s *stallWatch) IsMonotonic() bool { return true }
