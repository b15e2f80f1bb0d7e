package region

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// tooLate is what a node says that leaves a disk that hangs.
func (s *stallWatch) tooLate() {
	s.fail(fmt.Errorf("the disk of --data has taken more than %s for one write: leaving rather than lead on it", s.limit))
}

// check fails the node if an entry could not be read: Raft would panic, or ask for it for ever.
func (s *stallWatch) check(index uint64, err error) {
	switch {
	case err == nil || errors.Is(err, raft.ErrLogNotFound):
	case isDamage(err):
		s.quit(s.damaged(fmt.Sprintf("entry %d of the Raft log", index), err))
	default:
		s.quit(diskError(fmt.Sprintf("read entry %d of the Raft log", index), err))
	}
}

// DeleteRange implements raft.LogStore. Raft cuts off the beginning when it is not needed any more, and the end when the leader's log goes on
// otherwise.
func (s *stallWatch) DeleteRange(lo, hi uint64) error {
	if err := s.cutting(lo, hi); err != nil {
		return err
	}
	t := newStallTimer(s.limit, s.tooLate)
	err := s.LogStore.DeleteRange(lo, hi)
	t.stop()
	if err != nil {
		s.fail(diskError("cut Raft log", err))
	}
	return err
}

// watchedVotes ends the process if a term or a vote cannot be kept: Raft would panic, or vote a second time after a restart.
type watchedVotes struct {
	raft.StableStore
	log   *stallWatch
	votes *votes
}

// Set implements raft.StableStore.
func (v watchedVotes) Set(key, value []byte) error {
	if err := v.watch(func() error { return v.StableStore.Set(key, value) }); err != nil {
		return err
	}
	v.votes.kept(key, value)
	return nil
}

// SetUint64 implements raft.StableStore.
func (v watchedVotes) SetUint64(key []byte, value uint64) error {
	if err := v.watch(func() error { return v.StableStore.SetUint64(key, value) }); err != nil {
		return err
	}
	v.votes.keptTerm(key, value)
	return nil
}

func (v watchedVotes) watch(write func() error) error {
	t := newStallTimer(v.log.limit, v.log.tooLate)
	err := write()
	t.stop()
	if err != nil {
		v.log.quit(diskError("write term or vote", err))
	}
	return nil
}

// foundAlone founds the group of a node that is alone, if that has not been done. A first start that is cut short after the term, and before the
// first entry, leaves a term without a log: nobody has voted or acknowledged anything, and it is done again.
func (g *group) foundAlone(cfg *raft.Config) error {
	if g.r.several {
		return nil
	}
	last, err := g.log.LastIndex()
	if err != nil || last > 0 {
		return err
	}
	if snaps, err := g.snaps.List(); err != nil || len(snaps) > 0 {
		return err
	}
	if err := g.stable.SetUint64([]byte("CurrentTerm"), 0); err != nil {
		return err
	}
	return raft.BootstrapCluster(cfg, g.log, g.stable, g.snaps, g.transport, founders([]string{g.r.id}))
}

// watchedSnapshots ends the process if a snapshot cannot be written: the log would grow for ever.
type watchedSnapshots struct {
	raft.SnapshotStore
	fail func(error)
}

// Create implements raft.SnapshotStore.
func (s watchedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, at, t)
	if err != nil {
		s.fail(diskError("write snapshot", err))
		return nil, err
	}
	return watchedSink{sink, s.fail}, nil
}

type watchedSink struct {
	raft.SnapshotSink
	fail func(error)
}

// Write implements raft.SnapshotSink.
func (s watchedSink) Write(b []byte) (int, error) {
	n, err := s.SnapshotSink.Write(b)
	if err != nil {
		s.fail(diskError("write snapshot", err))
	}
	return n, err
}

// Close implements raft.SnapshotSink.
func (s watchedSink) Close() error {
	err := s.SnapshotSink.Close()
	if err != nil {
		s.fail(diskError("write snapshot", err))
	}
	return err
}
