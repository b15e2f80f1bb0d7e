package region

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/roamsync/roam/region/birth"
	"github.com/roamsync/roam/region/machine"
)

// cleanFor is how long it counts that a process ended in order. It is longer than a restart takes; what is older may be an image of the whole
// file system that has been put back, and other regions and clients may have seen what was numbered after it.
const cleanFor = time.Minute

// endedMark says when a process ended in order, in Unix milliseconds, 8 bytes, and what its directory was then.
func endedMark(now time.Time, born string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli())), born...)
}

// doubt says why it does not count that the process before ended in order; "": it does. Of a directory that cannot be told from its copies, born is "".
func doubt(mark []byte, born string, now time.Time) string {
	if len(mark) < 8 {
		return "it did not end in order"
	}
	if born == "" || string(mark[8:]) != born {
		return "this is not the directory that it ended in, but a copy, or was put back; or the machine was started since, or an older version ran"
	}
	if ago := now.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(mark)))); ago < 0 || ago >= cleanFor {
		return fmt.Sprintf("it ended %s ago, by this machine's clock", ago.Round(time.Second))
	}
	return ""
}

// ownersDisk stands for what is not told from its copies: a disk that the owner gives, who knows what it does to it.
const ownersDisk = "its owner's"

// born tells the directory from its copies, until renew.
func (r *Region) born() (string, error) {
	if r.cfg.Disk != nil {
		return ownersDisk, nil
	}
	return birth.Of(r.cfg.Dir)
}

// renew has the directory be another one than any mark speaks of.
func (r *Region) renew() error {
	if r.cfg.Disk != nil {
		return nil
	}
	const what = "note that a process begins"
	switch err := birth.Begin(r.cfg.Dir); {
	case err == nil:
		return nil
	case isDisk(err):
		return diskError(what, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// dirty notes how the process before ended, and that this one has not ended yet. Cut short between its steps, it leaves a mark of another directory, or none.
func (r *Region) dirty() error {
	mark, err := r.own().Get(machine.NodeKey(nodeClean))
	if err != nil {
		return err
	}
	born, err := r.born()
	why := doubt(mark, born, r.cfg.Now())
	if r.proven = r.fresh || why == ""; !r.proven && !r.recovering {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			why = fmt.Sprintf("%s (%v)", why, err)
		}
		r.cfg.Logger.Info("this node cannot tell yet whether its disk has gone back: how its process before ended does not count", "why", why)
	}
	if err := r.renew(); err != nil || mark == nil {
		return err
	}
	return errors.Join(r.db.Delete(machine.NodeKey(nodeClean), pebble.NoSync), r.flush())
}

// proves reports whether the node is proven in all groups: the next process is, too, if this one ends in order.
func (r *Region) proves() bool {
	return !slices.ContainsFunc(r.held, func(g *group) bool { return !g.proof.holds() })
}

// clean leaves the mark of a process that ends in order. Without it the next one cannot tell, and that is all.
func (r *Region) clean() error {
	born, err := r.born()
	if err != nil {
		r.cfg.Logger.Warn("the next process will not know that this one has ended in order", "err", err)
		return nil
	}
	return r.db.Set(machine.NodeKey(nodeClean), endedMark(r.cfg.Now(), born), pebble.NoSync)
}
