package region

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// cutLook is how often it is looked whether a log has grown too large.
const cutLook = 500 * time.Millisecond

// logSize is what was added to a group's log since it was cut last, or since the start.
type logSize struct {
	entries, bytes atomic.Uint64
	all            atomic.Uint64 // bytes since the start
}

func (s *logSize) add(ls []*raft.Log) {
	for _, l := range ls {
		s.bytes.Add(uint64(len(l.Data)))
		s.all.Add(uint64(len(l.Data)))
	}
	s.entries.Add(uint64(len(ls)))
}

// keep is how many entries, of the size that they have had, may stay when the log is cut.
func (s *logSize) keep(entries, bytes uint64) uint64 {
	mean := max(s.bytes.Load()/max(s.entries.Load(), 1), 1)
	return max(min(entries, bytes/mean), 1)
}

// cut has the group's log cut when it has grown by SnapshotBytes. Raft by itself counts entries, and one may have a few bytes or a
// mebibyte; all that was not cut off is read when the node starts.
func (g *group) cut(ctx context.Context) error {
	look := time.NewTicker(cutLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		if g.keeps() || g.log.size.bytes.Load() < g.r.cfg.SnapshotBytes {
			continue
		}
		trailing := g.log.size.keep(g.r.cfg.TrailingEntries, g.r.cfg.TrailingBytes)
		g.log.size.entries.Store(0)
		g.log.size.bytes.Store(0)
		err := g.tune(func(c *raft.ReloadableConfig) { c.TrailingLogs = trailing })
		if err == nil {
			err = g.raft.Snapshot().Error()
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			g.r.cfg.Logger.Warn("the Raft log is not cut; tried again when it has grown further", "group", g.n, "err", err)
		}
	}
}
