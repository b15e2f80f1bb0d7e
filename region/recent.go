package region

import (
	"sync"

	"github.com/hashicorp/raft"
)

// logRecent is how many of a group's last entries are at hand: each has at most a mebibyte or so.
const logRecent = 8

// recentLog has the last entries at hand: they are sent to the other nodes, and applied, right after they were written. It is raft.LogCache, but for
// errors, which stay what they are.
type recentLog struct {
	raft.LogStore

	mu   sync.RWMutex
	last [logRecent]*raft.Log // by index; guarded by mu
}

// GetLog implements raft.LogStore.
func (r *recentLog) GetLog(index uint64, l *raft.Log) error {
	r.mu.RLock()
	held := r.last[index%logRecent]
	r.mu.RUnlock()
	if held != nil && held.Index == index {
		*l = *held
		return nil
	}
	return r.LogStore.GetLog(index, l)
}

// StoreLog implements raft.LogStore.
func (r *recentLog) StoreLog(l *raft.Log) error { return r.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. Raft does not change what it has given.
func (r *recentLog) StoreLogs(ls []*raft.Log) error {
	if err := r.LogStore.StoreLogs(ls); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range ls {
		r.last[l.Index%logRecent] = l
	}
	return nil
}

// DeleteRange implements raft.LogStore.
func (r *recentLog) DeleteRange(lo, hi uint64) error {
	r.mu.Lock()
	clear(r.last[:])
	r.mu.Unlock()
	return r.LogStore.DeleteRange(lo, hi)
}
