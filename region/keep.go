package region

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// keepFor is how long a node that gives its state to another one keeps its whole log after each part: the other one goes on from there,
	// and would need the state again, and again, if the log were cut meanwhile.
	keepFor = 5 * time.Minute
	// keepBytes bounds what a log may grow by meanwhile.
	keepBytes = 4 << 30
	// keepAll is more entries than there are.
	keepAll = 1 << 60
)

// logKeep keeps a group's log from being cut while another node takes the state.
type logKeep struct {
	until atomic.Int64 // Unix nanoseconds
	was   bool         // owned by cut, as what follows
	from  uint64       // bytes that were written when it began
}

// renew has the log kept from now on, for keepFor.
func (k *logKeep) renew() { k.until.Store(time.Now().Add(keepFor).UnixNano()) }

// due reports whether the log is to be kept now, given what has been written to it.
func (k *logKeep) due(now time.Time, written uint64, low bool) bool {
	due := now.UnixNano() < k.until.Load() && !low
	if due && !k.was {
		k.from = written
	}
	k.was = due
	return due && written-k.from <= keepBytes
}

// keeps reports whether the group's log is not to be cut, and has Raft know that.
func (g *group) keeps() bool {
	keep := g.keep.due(time.Now(), g.log.size.all.Load(), g.r.space.low.Load())
	if kept := g.raft.ReloadableConfig().TrailingLogs == keepAll; kept == keep {
		return keep
	}
	trailing := uint64(keepAll)
	if !keep {
		trailing = g.log.size.keep(g.r.cfg.TrailingEntries, g.r.cfg.TrailingBytes)
	}
	if err := g.tune(func(c *raft.ReloadableConfig) { c.TrailingLogs = trailing }); err != nil {
		g.r.cfg.Logger.Warn("the Raft log is not kept for a node that takes the state", "group", g.n, "err", err)
	}
	return keep
}
