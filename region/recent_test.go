package region

import (
	"errors"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// countedLog counts what is read from it, and fails on demand.
type countedLog struct {
	*raft.InmemStore
	reads int
	fail  error
}

func (c *countedLog) GetLog(index uint64, l *raft.Log) error {
	c.reads++
	return c.InmemStore.GetLog(index, l)
}

func (c *countedLog) StoreLogs(ls []*raft.Log) error {
	if c.fail != nil {
		return c.fail
	}
	return c.InmemStore.StoreLogs(ls)
}

// TestRecentEntries: the last entries are not read from the disk, and what was overwritten, cut or never written is not given out.
func TestRecentEntries(t *testing.T) {
	under := &countedLog{InmemStore: raft.NewInmemStore()}
	r := &recentLog{LogStore: under}
	const n = 3 * logRecent
	for i := range uint64(n) {
		if err := r.StoreLog(&raft.Log{Index: i + 1, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	var l raft.Log
	for i := range uint64(n) {
		if err := r.GetLog(i+1, &l); err != nil || l.Index != i+1 {
			t.Errorf("entry %d: got %d, %v", i+1, l.Index, err)
		}
	}
	if under.reads != n-logRecent {
		t.Errorf("%d of %d entries were read, want all but the last %d", under.reads, n, logRecent)
	}
	if err := r.DeleteRange(n, n); err != nil {
		t.Fatal(err)
	}
	if err := r.GetLog(n, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry that was deleted: %v", err)
	}
	if err := r.StoreLog(&raft.Log{Index: n, Term: 2}); err != nil {
		t.Fatal(err)
	}
	if err := r.GetLog(n, &l); err != nil || l.Term != 2 {
		t.Errorf("an entry in place of another: term %d, %v", l.Term, err)
	}
	under.fail = syscall.ENOSPC
	if err := r.StoreLog(&raft.Log{Index: n + 1, Term: 2}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the error of the disk has become %v", err)
	}
	if err := r.GetLog(n+1, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry that could not be written: %v", err)
	}
}
