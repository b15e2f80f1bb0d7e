package region

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// Found is what a node's directory holds in which no node runs, with all that is in its log applied, whether a majority had it or not. It is a
// copy: nothing in the directory changes.
type Found struct {
	Region, Node string
	Groups       int
	Replayed     uint64 // entries of the log that were not applied
	Torn         error  // why what is in the log does not follow the state, and is left alone; nil: it does
	r            *Region
}

// foundCache is Pebble's cache: most is read once.
const foundCache = 32 << 20

// OpenFound opens the directory of a node that does not run, in a copy in work, which is empty. Tables, which are most of it and never change, are
// linked, if work is on the same disk. Whoever has a Found calls Close, and removes work.
func OpenFound(dir, work string, logger *slog.Logger) (*Found, error) {
	if err := copyFound(dir, work); err != nil {
		return nil, err
	}
	cfg := Config{Region: "unknown", Node: "unknown", Dir: work, Logger: logger, CacheBytes: foundCache}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := prepare(cfg)
	r.recovering, r.reading = true, true
	f := &Found{r: r}
	if err := r.guarded(f.open); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return f, nil
}

func (f *Found) open() error {
	r := f.r
	if err := r.openState(); err != nil {
		return err
	}
	if r.count == 0 {
		return errors.New("this node was never part of its region: it holds nothing")
	}
	if err := r.openCopies(); err != nil {
		return err
	}
	f.Region, f.Node, f.Groups = r.cfg.Region, r.cfg.Node, r.count
	for _, g := range r.held {
		g.fsm.fetch = func(uint64) error { return errNoOthers }
		if g.torn == nil {
			n, err := g.replay()
			if f.Replayed += n; err != nil && !errors.Is(err, errNoOthers) {
				return fmt.Errorf("group %d: %w", g.n, err)
			}
			g.torn = err
		}
		if g.torn != nil {
			f.Torn = errors.Join(f.Torn, fmt.Errorf("group %d: %w", g.n, g.torn))
		}
	}
	return nil
}

// Do runs fn, which reads what was found. If the disk fails, Do says so.
func (f *Found) Do(fn func() error) error { return f.r.guarded(fn) }

// Of is the state that a partition is in.
func (f *Found) Of(partition uint8) *machine.Machine {
	return f.r.held[int(partition)*len(f.r.held)/crdt.Partitions].fsm.Machine
}

// Close lets the copy go.
func (f *Found) Close() error { return f.r.Close() }

// belongsTo takes over from a directory that is only read whose it is.
func (r *Region) belongsTo(identity []byte) error {
	var ok bool
	if r.cfg.Region, r.cfg.Node, ok = strings.Cut(string(identity), "/"); !ok {
		return errors.New("it does not say which node's directory it is: it is none of this program, or of a version before 0.3")
	}
	return nil
}

// copyFound copies a directory that no process works in.
func copyFound(dir, work string) error {
	state := filepath.Join(dir, "state")
	if _, err := os.Stat(state); err != nil {
		return fmt.Errorf("no node's directory: %w", err)
	}
	lock, err := vfs.Default.Lock(filepath.Join(state, "LOCK"))
	if errors.Is(err, syscall.EROFS) { // then nobody writes there
		lock, err = io.NopCloser(nil), nil
	}
	if err != nil {
		return fmt.Errorf("is a node running in %s? %w", dir, err)
	}
	for _, sub := range []string{"state", "raft"} {
		if err == nil {
			err = copyTree(filepath.Join(dir, sub), filepath.Join(work, sub))
		}
	}
	return errors.Join(err, lock.Close())
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if path == from && errors.Is(err, os.ErrNotExist) {
			return nil // a state whose log is lost is a state
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		switch ext := filepath.Ext(path); {
		case d.IsDir():
			return os.MkdirAll(at, 0o755)
		case !d.Type().IsRegular() || d.Name() == "LOCK":
			return nil
		case (ext == ".sst" || ext == ".blob") && os.Link(path, at) == nil: // Pebble never changes one
			return nil
		}
		return copyFile(path, at)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
