package region

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/roamsync/roam/region/backup"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// RestoreConfig says where a backup goes.
type RestoreConfig struct {
	Dir    string       // absent or empty
	Region string       // that the backup must be of; "": any
	Node   string       // name of the node; "": that of the one which the backup was taken from
	Logger *slog.Logger // nil discards
}

// Restore makes a node's directory from a backup, at once or not at all. The node that is started in it is its region alone, takes
// other nodes in, and numbers nothing before it has begun a new incarnation.
func Restore(ctx context.Context, cfg RestoreConfig, in io.Reader, seen func(Saved)) (Saved, error) {
	file, err := openBackup(in)
	if err != nil {
		return Saved{}, err
	}
	defer file.Close()
	all := Saved{Header: file.Header}
	if cfg.Region != "" && cfg.Region != all.Region {
		return all, fmt.Errorf("the backup is of region %s, not %s: a region can only be restored as itself", all.Region, cfg.Region)
	}
	if cfg.Node == "" {
		cfg.Node = all.Node
	}
	if err := checkEmpty(cfg.Dir); err != nil {
		return all, err
	}
	half := filepath.Join(cfg.Dir, restoring)
	if err := makeDir(vfs.Default, half); err != nil {
		return all, err
	}
	rc := Config{Region: all.Region, Node: cfg.Node, Dir: half, Groups: len(all.Applied), Logger: cfg.Logger}
	if err := restore(ctx, rc, file, &all, seen); err != nil {
		return all, errors.Join(err, os.RemoveAll(half))
	}
	if err := syncTree(half); err != nil {
		return all, err
	}
	return all, moveIn(cfg.Dir, half)
}

// checkEmpty refuses a directory that holds anything.
func checkEmpty(dir string) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(names) == 0 {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s holds %s: a backup is restored into an empty directory only. Stop the node, move what is there away, and try again",
			dir, names[0].Name())
	}
	return err
}

// restore makes the directory of a node that has taken all that a file holds.
func restore(ctx context.Context, cfg Config, file *backup.Reader, all *Saved, seen func(Saved)) (err error) {
	if err := cfg.check(); err != nil {
		return err
	}
	r := prepare(cfg)
	err = r.guarded(func() error { return r.take(ctx, file, all, seen) })
	return errors.Join(err, r.Close())
}

// take makes what a file holds this node's state, and has it begin anew.
func (r *Region) take(ctx context.Context, file *backup.Reader, all *Saved, seen func(Saved)) (err error) {
	if err := r.openState(); err != nil {
		return err
	}
	if err := r.decide(r.cfg.Groups); err != nil {
		return err
	}
	var open *staging
	defer func() {
		if open != nil && open.writer != nil {
			err = errors.Join(err, open.writer.Close())
		}
	}()
	last := ""
	if err := eachGroup(file, func(n int) (func(*peerpb.StatePart) error, error) {
		open = &staging{
			fs: vfs.Default, dir: filepath.Join(r.cfg.Dir, "staging"), prefix: r.prefix(n), db: r.db, intake: intake{sum: newChecksum()},
		}
		if err := open.clear(); err != nil {
			return nil, err
		}
		return func(p *peerpb.StatePart) error {
			if err := errors.Join(ctx.Err(), open.add(p)); err != nil {
				return err
			}
			last = all.note(p, last, seen)
			if !p.Last {
				return nil
			}
			return r.ingest(ctx, n, open)
		}, nil
	}); err != nil {
		return err
	}
	if err := r.openCopies(); err != nil {
		return err
	}
	return r.anew()
}

// ingest makes what was staged a group's state.
func (r *Region) ingest(ctx context.Context, n int, s *staging) error {
	taken := binary.BigEndian.AppendUint64(nil, s.applied)
	if err := r.db.Set(machine.NodeKey((&group{r: r, n: n}).named(nodeTaken)), taken, pebble.NoSync); err != nil || len(s.tables) == 0 {
		return err
	}
	return r.db.Ingest(ctx, s.tables)
}

// syncTree has a directory and those below it on the disk. Their files are.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(vfs.Default, path)
	})
}

// moveIn makes what was restored the directory's. The state is last: without it, what is there is refused.
func moveIn(dir, half string) error {
	for _, sub := range []string{"raft", "state"} {
		if err := os.Rename(filepath.Join(half, sub), filepath.Join(dir, sub)); err != nil {
			return err
		}
		if err := syncDir(vfs.Default, dir); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(half), syncDir(vfs.Default, dir))
}
