package region

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/roamsync/roam/crdt"
)

const (
	// asideFile is in a directory that has numbered what another region holds otherwise: the next start puts its state aside.
	asideFile = "FORKED"
	// asideDir is where that is, until what only it has is taken in.
	asideDir = "forked"
	// rebuiltFile lists the origins for which that was done: it is done once.
	rebuiltFile = "REBUILT"
)

// ErrForked ends a node that begins anew, since it has numbered what another region holds otherwise.
var ErrForked = errors.New("this region's disk has gone back in time: another region holds something else under numbers that it has given. " +
	"Start the node again: it takes everything from the other region then, and has what only its own disk holds taken in")

// Aside is the state that was put aside, because another region, peer, holds something else under its numbers.
type Aside struct{ Dir, Peer string }

// Rebuild has the node end, and begin anew when it is started again, unless it has done so for that origin before. It is for a region of
// one node.
func (r *Region) Rebuild(forked crdt.Origin, peer string) error {
	r.marking.Lock()
	defer r.marking.Unlock()
	switch {
	case errors.Is(r.failure.get(), ErrForked):
		return nil
	case r.cfg.Disk != nil || r.cfg.Join || r.cfg.Expect != 1 || !r.single():
		return errors.New("only a region of one node begins anew by itself")
	case r.Aside() != nil:
		return errors.New("what was put aside before is not taken in yet")
	}
	before, err := readAll(filepath.Join(r.cfg.Dir, rebuiltFile))
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(before), string(forked)) {
		return errors.New("the region has begun anew for that origin before")
	}
	err = errors.Join(writeSynced(r.cfg.Dir, rebuiltFile, before+string(forked)+"\n"), writeSynced(r.cfg.Dir, asideFile, peer))
	if err == nil {
		r.fail(fmt.Errorf("%w (%s, region %s)", ErrForked, forked, peer))
	}
	return err
}

// single reports whether no other node belongs to the region, with a vote or without.
func (r *Region) single() bool {
	for _, g := range r.all() {
		if len(g.servers()) != 1 {
			return false
		}
	}
	return len(r.all()) > 0
}

// Aside is what was put aside and is not taken in yet, nil for nothing.
func (r *Region) Aside() *Aside {
	dir := filepath.Join(r.cfg.Dir, asideDir)
	peer, err := os.ReadFile(filepath.Join(dir, asideFile))
	if err != nil {
		return nil
	}
	return &Aside{dir, string(peer)}
}

// TakenIn removes what was put aside: all of it is in the region.
func (r *Region) TakenIn(a *Aside) error {
	done := a.Dir + ".done" // one that is removed in part is not taken in again
	if err := errors.Join(os.RemoveAll(done), os.Rename(a.Dir, done), syncDir(vfs.Default, r.cfg.Dir)); err != nil {
		return err
	}
	return os.RemoveAll(done)
}

// putAside moves the state of a node that is to begin anew. Cut short, it is gone on with by the next start.
func (r *Region) putAside() error {
	if r.cfg.Disk != nil || r.reading {
		return nil
	}
	mark, to := filepath.Join(r.cfg.Dir, asideFile), filepath.Join(r.cfg.Dir, asideDir)
	if _, err := os.Stat(mark); err != nil {
		return nil // there is none, or what is opened next says what is wrong
	}
	if r.recovering {
		return errors.New("this node is to begin anew: start it, or have a region take in this directory (roam region salvage)")
	}
	if err := makeDir(vfs.Default, to); err != nil {
		return err
	}
	for _, sub := range []string{"state", "raft"} {
		from, at := filepath.Join(r.cfg.Dir, sub), filepath.Join(to, sub)
		if _, err := os.Stat(at); err == nil {
			continue
		}
		if err := os.Rename(from, at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := errors.Join(syncDir(vfs.Default, to), syncDir(vfs.Default, r.cfg.Dir)); err != nil {
		return err
	}
	r.cfg.Logger.Warn("the state is put aside: the region begins anew, and what only that has is taken in", "dir", to)
	return errors.Join(os.Rename(mark, filepath.Join(to, asideFile)), syncDir(vfs.Default, to), syncDir(vfs.Default, r.cfg.Dir))
}

// readAll returns what a file holds, "" if there is none.
func readAll(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return string(b), err
}

// writeSynced replaces a file, durably.
func writeSynced(dir, name, text string) error {
	f, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(vfs.Default, dir)
}
