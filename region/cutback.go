package region

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/roamsync/roam/region/machine"
)

var errAstray = fmt.Errorf("%w: the region goes on without something that this node has applied, since the disk of another one had gone back", errTorn)

// empty takes state and logs from the directory. What the region has gone on without stays beside them: only this node may have it. What is staged
// stays: it is compared with what another node has.
func (r *Region) empty(keep bool) error {
	fs, beside := r.cfg.files(), filepath.Join(r.cfg.Dir, "astray-"+strconv.FormatInt(r.cfg.Now().Unix(), 10))
	if keep = keep && r.cfg.Disk == nil; keep {
		if err := fs.MkdirAll(beside, 0o755); err != nil {
			return err
		}
		r.cfg.Logger.Error("what the region has gone on without is kept: if clients and other regions do not bring it back, take it from there", "dir", beside)
	}
	for _, sub := range []string{"raft", "state"} { // a start that finds a state without its log does this again
		path := filepath.Join(r.cfg.Dir, sub)
		err := error(nil)
		if keep {
			err = fs.Rename(path, filepath.Join(beside, sub))
		} else {
			err = fs.RemoveAll(path)
		}
		if err := errors.Join(err, syncDir(fs, r.cfg.Dir)); err != nil {
			return err
		}
	}
	return nil
}

// nodeAstray is there if the region goes on without something that this node has applied.
const nodeAstray = "astray"

// cutting tells who has to know that the end of the log is about to go.
func (s *stallWatch) cutting(lo, hi uint64) error {
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil || hi < last {
		return err
	}
	s.cutBack(lo, lo <= first)
	return nil
}

// cutBack is called by Raft before the end of the log goes, from an entry on. What this node has acknowledged may be in it, so it is not proven any
// more. All of it goes after a snapshot has come, of which Restore has seen to it; an entry that was applied never goes, unless who leads lacks it.
func (g *group) cutBack(from uint64, all bool) {
	g.proof.lose()
	if have := g.settled(); !all && from <= have {
		g.r.quit(g.astray(from, have))
	}
}

// settled is the last entry that is applied, or is about to be.
func (g *group) settled() uint64 {
	have := g.fsm.Applied()
	if r := g.opened.Load(); r != nil {
		have = max(have, r.CommitIndex())
	}
	return have
}

// astray leaves a mark, with which the next start takes what the others have, and returns what the node says as it ends.
func (g *group) astray(from, have uint64) error {
	err := fmt.Errorf("the region's leader goes on without entry %d of group %d, and this node has applied up to %d: the disk of another node has gone back "+
		"to an earlier state, and what was acknowledged is lost there. Start this node again: it takes what the others have now, and keeps what it had beside "+
		"that. It comes back from other regions too, and from clients that put it again", from, g.n, have)
	return errors.Join(err, g.r.note(g.named(nodeAstray), 1))
}

// checkAstray has the node start empty if the region went on without something that it had applied.
func (g *group) checkAstray() error {
	v, err := g.r.own().Get(machine.NodeKey(g.named(nodeAstray)))
	if err == nil && v != nil {
		err = errAstray
	}
	return err
}

// leftBehind ends a node that is sent a snapshot of before its own state: its log went as far as its state, and the leader has found nothing in it to
// go on from. Only a state that was taken from another node, or restored, may be ahead of the log.
func (g *group) leftBehind(index uint64) error {
	taken, err := g.taken()
	if have := g.fsm.Applied(); err == nil && have > taken {
		err = g.astray(index, have)
	}
	if err != nil {
		g.r.fail(err)
	}
	return err
}
