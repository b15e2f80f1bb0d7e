package region

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/region/machine"
)

// A directory whose state does not come from the log beside it, because it is restored from a backup, or because the nodes that
// could continue that log are gone, begins anew: Raft's log is empty, and begins after the state. The configuration is this node
// alone, under another id, so that nobody who knew it under its former one can take part. And the state has no incarnation:
// whoever leads must begin one before it numbers anything, since others may have seen what was numbered after this state.

// nodePending names what has to be run again before the directory can be used; it is there while that is not done.
const nodePending = "pending"

// restoring is the directory that a backup is restored in, until it is whole.
const restoring = "restoring"

// checkPending refuses a directory that is half done.
func (r *Region) checkPending() error {
	v, err := r.own().Get(machine.NodeKey(nodePending))
	if err == nil && v != nil && !r.recovering {
		err = fmt.Errorf("roam %s was cut short in this directory: run it again", v)
	}
	return err
}

// checkRestored refuses a directory in which a backup is half restored.
func (r *Region) checkRestored() error {
	if _, err := r.cfg.files().Stat(filepath.Join(r.cfg.Dir, restoring)); err == nil {
		return errors.New("roam restore was cut short in this directory: empty it, and run that again")
	}
	return nil
}

// openCopies opens the logs and states of all groups.
func (r *Region) openCopies() (err error) {
	if r.logs, err = r.openLogs(); err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	for n := range r.count {
		r.held = append(r.held, &group{
			r: r, n: n, mask: partitionsOf(n, r.count), leader: newLeader(),
			queue: make(chan *proposal, queueLength), evicted: make(chan struct{}, 1), store: r.store(r.prefix(n)),
		})
		if g := r.held[n]; r.proven {
			g.proof.give(g.proof.since())
		}
	}
	for _, g := range r.held {
		if err := g.openState(); err != nil {
			return err
		}
	}
	return nil
}

// anew has the directory begin anew under a new raft id. What is in the state is on the disk when it returns.
func (r *Region) anew() error {
	r.id = r.drawID()
	b := r.db.NewBatch()
	defer b.Close()
	errs := []error{b.Set(machine.NodeKey(nodeID), []byte(r.id), nil), b.Delete(machine.NodeKey(nodeClean), nil),
		b.Set(machine.NodeKey(nodeSeveral), []byte{0}, nil), b.Delete(machine.NodeKey(nodeLeft), nil)}
	for _, g := range r.held {
		// The log may begin after the state, as it does after a transfer.
		taken := binary.BigEndian.AppendUint64(nil, g.fsm.Applied())
		errs = append(errs, b.Set(machine.NodeKey(g.named(nodeTaken)), taken, nil), machine.Disown(g.store))
	}
	if err := errors.Join(append(errs, b.Commit(pebble.NoSync), r.flush())...); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	for _, g := range r.held {
		if err := g.beginLog(); err != nil {
			return fmt.Errorf("raft log of group %d: %w", g.n, err)
		}
	}
	return nil
}

// keyTerm is where Raft keeps its term.
var keyTerm = []byte("CurrentTerm")

// beginLog empties the group's log, and names in a snapshot what was before it: the state, and this node alone.
func (g *group) beginLog() error {
	first, err1 := g.log.FirstIndex()
	last, err2 := g.log.LastIndex()
	before, term, err3 := g.before()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	index := max(last, before, g.fsm.Applied(), 1) // Raft takes no index twice
	_, transport := raft.NewInmemTransport(raft.ServerAddress(g.r.id))
	sink, err := g.snaps.Create(raft.SnapshotVersionMax, index, term, founders([]string{g.r.id}), 1, transport)
	if err != nil {
		return err
	}
	if err := (reference{g.r.flush, g.fsm.Applied()}).Persist(sink); err != nil {
		return err
	}
	if last > 0 {
		err = g.log.LogStore.DeleteRange(first, last)
	}
	return errors.Join(err, g.stable.SetUint64(keyTerm, term))
}

// before returns the index that the log was cut to, and a term above all that this node has heard of.
func (g *group) before() (index, term uint64, err error) {
	term, err = g.stable.GetUint64(keyTerm)
	if err != nil && err.Error() != "not found" { // as Raft asks
		return 0, 0, err
	}
	metas, err := g.snaps.List()
	for _, m := range metas {
		index, term = max(index, m.Index), max(term, m.Term)
	}
	return index, term + 1, err
}
