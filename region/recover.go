package region

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/region/machine"
)

// Recovered is what a node was made its region from.
type Recovered struct {
	Groups   int
	Replayed uint64 // entries of the log that were not applied yet
	ID       string // the node's raft id from now on
}

// errNoOthers is what a state from other nodes ends with, where there are none.
var errNoOthers = errors.New("the state is older than the log: this directory cannot be recovered; restore a backup instead")

// Recover makes a node of a region whose other nodes are lost for good the region's only one. All that is in its log counts from
// then on, whether a majority had it or not; what only the others had is gone, here. It is run while no node runs in the
// directory, and may be run again.
func Recover(cfg Config) (rec Recovered, err error) {
	cfg.Expect, cfg.Groups = 1, 0
	if err := cfg.check(); err != nil {
		return rec, err
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "state")); err != nil {
		return rec, fmt.Errorf("there is no state in %s: %w", cfg.Dir, err)
	}
	r := prepare(cfg)
	r.recovering = true
	err = r.guarded(func() error {
		rec, err = r.recover()
		return err
	})
	return rec, errors.Join(err, r.Close())
}

func (r *Region) recover() (rec Recovered, err error) {
	if err := r.openState(); err != nil {
		return rec, err
	}
	if r.count == 0 {
		return rec, errors.New("this node was never part of its region: it holds nothing to recover")
	}
	if err := r.openCopies(); err != nil {
		return rec, err
	}
	if err := errors.Join(r.db.Set(machine.NodeKey(nodePending), []byte("recover"), pebble.NoSync), r.flush()); err != nil {
		return rec, err
	}
	for _, g := range r.held {
		g.fsm.fetch = func(uint64) error { return errNoOthers }
		n, err := g.replay()
		if err != nil {
			return rec, fmt.Errorf("group %d: %w", g.n, err)
		}
		rec.Replayed += n
	}
	if err := r.anew(); err != nil {
		return rec, err
	}
	rec.Groups, rec.ID = r.count, r.id
	return rec, errors.Join(r.db.Delete(machine.NodeKey(nodePending), pebble.NoSync), r.flush())
}

// replay applies what is in the log and not in the state.
func (g *group) replay() (n uint64, err error) {
	last, err := g.log.LastIndex()
	if err != nil {
		return 0, err
	}
	first, err := g.log.FirstIndex()
	if err != nil || last == 0 {
		return 0, err
	}
	metas, err := g.snaps.List()
	if err != nil {
		return 0, err
	}
	have := g.fsm.Applied()
	if len(metas) > 0 {
		have = max(have, metas[0].Index) // what is between is of Raft's own
	}
	if first > have+1 {
		return 0, errNoOthers
	}
	for i := max(first, g.fsm.Applied()+1); i <= last; i++ {
		var l raft.Log
		if err := g.log.GetLog(i, &l); err != nil {
			return n, fmt.Errorf("entry %d: %w", i, err)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if err, failed := g.fsm.Apply(&l).(error); failed {
			return n, err
		}
		n++
	}
	return n, nil
}
