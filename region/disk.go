package region

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// Disk keeps a node's files in place of the machine's disk: in memory, say, where power can fail. All fields are needed.
// Whoever gives it also closes it.
type Disk struct {
	// Files are Pebble's, and the states of other nodes on their way in.
	Files vfs.FS
	// Log has the segments of the Raft log, Meta their list, the term and the vote.
	Log  types.VFS
	Meta types.MetaStore
	// Snapshots are references: the state they name is in Files.
	Snapshots raft.SnapshotStore
	// Forget empties Log, Meta and Snapshots, for a node that has to begin anew.
	Forget func() error
}

// files is where directories are made and removed, and where states are staged.
func (c *Config) files() vfs.FS {
	if c.Disk != nil {
		return c.Disk.Files
	}
	return vfs.Default
}

var subdirs = []string{"state", "raft", "staging"}

// makeDirs makes the directories, and has them on the disk: what is synced in a directory that is not is lost with it.
func (r *Region) makeDirs() error {
	dir, err := filepath.Abs(r.cfg.Dir)
	if err != nil {
		return err
	}
	fs := r.cfg.files()
	if err := makeDir(fs, dir); err != nil {
		return err
	}
	for _, sub := range subdirs {
		if err := fs.MkdirAll(filepath.Join(r.cfg.Dir, sub), 0o755); err != nil {
			return err
		}
	}
	return syncDir(fs, dir)
}

// makeDir makes a directory and those above it that are missing.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	above := filepath.Dir(dir)
	if above != dir {
		if err := makeDir(fs, above); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return syncDir(fs, above)
}

func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// openSnapshots finds the group's snapshots.
func (g *group) openSnapshots() (raft.SnapshotStore, error) {
	if d := g.r.cfg.Disk; d != nil {
		return d.Snapshots, nil
	}
	if err := os.MkdirAll(g.dir("raft"), 0o755); err != nil {
		return nil, err
	}
	return raft.NewFileSnapshotStoreWithLogger(g.dir("raft"), snapshotsKept, raftLog(g.r.cfg.Logger))
}
