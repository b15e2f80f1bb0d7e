package region

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
)

// The engines of the Raft log. One group has raft-wal to itself; several share one Pebble, so that their fsyncs are one.
const (
	engineWAL    = "raft-wal"
	enginePebble = "pebble"
)

// logs is where the groups keep their Raft logs and votes.
type logs interface {
	open(group int) (raft.LogStore, raft.StableStore, error)
	close() error
}

// openLogs opens the engine that fits the number of groups.
func (r *Region) openLogs() (logs, error) {
	engine := r.cfg.engine
	if engine == "" {
		engine = engineWAL
		if r.count > 1 {
			engine = enginePebble
		}
	}
	dir := filepath.Join(r.cfg.Dir, "raft")
	shared := filepath.Join(dir, sharedLog)
	if _, err := r.cfg.files().Stat(shared); err == nil && engine == engineWAL {
		return nil, fmt.Errorf("%w: the log is of a region of several groups, the state is not: empty the directory, and the "+
			"node gets what it held from the others", errTorn)
	}
	if engine == enginePebble {
		l, err := r.openPebbleLogs(shared)
		if err != nil {
			return nil, r.opened("the Raft log", err)
		}
		return l, nil
	}
	return &walLogs{cfg: r.cfg, dir: dir, several: r.count > 1}, nil
}

// walLogs is a raft-wal for each group.
type walLogs struct {
	cfg     Config
	dir     string
	several bool
	closers []interface{ Close() error }
}

func (l *walLogs) open(group int) (raft.LogStore, raft.StableStore, error) {
	dir, logger := l.dir, raftwal.WithLogger(raftLog(l.cfg.Logger))
	if d := l.cfg.Disk; d != nil {
		wal, err := raftwal.Open(dir, raftwal.WithMetaStore(d.Meta), logger, raftwal.WithSegmentFiler(segment.NewFiler(dir, d.Log)))
		if err != nil {
			return nil, nil, err
		}
		l.closers = append(l.closers, wal)
		return &recentLog{LogStore: summedLog{wal}}, wal, nil
	}
	if l.several {
		dir = filepath.Join(dir, fmt.Sprintf("%02d", group))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	meta := &metadb.BoltMetaDB{} // raft-wal does not close the one that it opens itself
	wal, err := raftwal.Open(dir, raftwal.WithMetaStore(meta), logger)
	if err != nil {
		return nil, nil, errors.Join(err, meta.Close())
	}
	l.closers = append(l.closers, wal, meta)
	return &recentLog{LogStore: summedLog{wal}}, wal, nil
}

func (l *walLogs) close() error {
	var errs []error
	for _, c := range l.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
