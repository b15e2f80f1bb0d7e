package bubble

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"github.com/roamsync/roam/region"
)

// disk is a node's disk. What is written and not synced is lost in a crash, all or part of it.
type disk struct {
	files *vfs.MemFS

	mu     sync.Mutex // guards what follows; a crash is one moment of all of it
	log    map[string]*logFile
	wal    types.PersistentState
	stable map[string][]byte
	snaps  []*snapshot // published, the newest first
	lies   bool        // it says that the log is synced, and does not sync it; only planted bugs do
}

func newDisk() *disk {
	return &disk{files: vfs.NewCrashableMem(), log: map[string]*logFile{}, stable: map[string][]byte{}}
}

func (d *disk) use(c *region.Config) {
	c.Disk = &region.Disk{Files: d.files, Log: logDir{d}, Meta: metaStore{d}, Snapshots: snapshots{d}, Forget: d.forget}
}

// forget empties what is not in files.
func (d *disk) forget() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log, d.wal, d.stable, d.snaps = map[string]*logFile{}, types.PersistentState{}, map[string][]byte{}, nil
	return nil
}

// crash returns what is left when power fails now. Whoever goes on with the old disk does so in vain.
func (d *disk) crash(rng *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := &disk{log: map[string]*logFile{}, wal: clonedState(d.wal), stable: maps.Clone(d.stable), snaps: slices.Clone(d.snaps)}
	// What Pebble has by now stood in the log before the lock was taken.
	left.files = d.files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	for _, path := range slices.Sorted(maps.Keys(d.log)) {
		left.log[path] = d.log[path].crash(left, rng)
	}
	return left
}

func clonedState(s types.PersistentState) types.PersistentState {
	s.Segments = slices.Clone(s.Segments)
	return s
}

// logFile is a segment of the Raft log.
type logFile struct {
	d            *disk
	size         int64 // as created: what was never written reads as zeros
	data, synced []byte
	pending      []span // of data, not synced
}

type span struct{ from, to int }

// crash keeps what was synced, and of what was not now and then the beginning.
func (f *logFile) crash(d *disk, rng *rand.Rand) *logFile {
	left := &logFile{d: d, size: f.size, synced: slices.Clone(f.synced)}
	for _, s := range f.pending {
		if rng.IntN(2) == 0 {
			s.to = s.from + rng.IntN(s.to-s.from+1)
			left.synced = written(left.synced, f.data[s.from:s.to], s.from)
		}
	}
	left.data = slices.Clone(left.synced)
	return left
}

// written is data with b at off.
func written(data, b []byte, off int) []byte {
	if grow := off + len(b) - len(data); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[off:], b)
	return data
}

// WriteAt implements types.WritableFile.
func (f *logFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.data = written(f.data, b, int(off))
	f.pending = append(f.pending, span{int(off), int(off) + len(b)})
	return len(b), nil
}

// ReadAt implements types.ReadableFile.
func (f *logFile) ReadAt(b []byte, off int64) (n int, err error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	end := max(f.size, int64(len(f.data)))
	if off >= end {
		return 0, io.EOF
	}
	if off < int64(len(f.data)) {
		n = copy(b, f.data[off:])
	}
	zeros := min(int64(len(b)), end-off)
	clear(b[n:zeros])
	if zeros < int64(len(b)) {
		err = io.EOF
	}
	return int(zeros), err
}

// Sync implements types.WritableFile.
func (f *logFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.lies {
		return nil
	}
	for _, s := range f.pending {
		f.synced = written(f.synced, f.data[s.from:s.to], s.from)
	}
	f.pending = nil
	return nil
}

// Close implements types.ReadableFile.
func (f *logFile) Close() error { return nil }

// logDir is where the segments are.
type logDir struct{ d *disk }

// ListDir implements types.VFS.
func (l logDir) ListDir(dir string) (names []string, err error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	for path := range l.d.log {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Create implements types.VFS.
func (l logDir) Create(dir, name string, size uint64) (types.WritableFile, error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	path := filepath.Join(dir, name)
	if l.d.log[path] != nil {
		return nil, fmt.Errorf("create %s: %w", path, os.ErrExist)
	}
	f := &logFile{d: l.d, size: int64(size)}
	l.d.log[path] = f
	return f, nil
}

// Delete implements types.VFS.
func (l logDir) Delete(dir, name string) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	delete(l.d.log, filepath.Join(dir, name))
	return nil
}

func (l logDir) open(dir, name string) (*logFile, error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	path := filepath.Join(dir, name)
	f := l.d.log[path]
	if f == nil {
		return nil, fmt.Errorf("open %s: %w", path, os.ErrNotExist)
	}
	return f, nil
}

// OpenReader implements types.VFS.
func (l logDir) OpenReader(dir, name string) (types.ReadableFile, error) { return l.open(dir, name) }

// OpenWriter implements types.VFS.
func (l logDir) OpenWriter(dir, name string) (types.WritableFile, error) { return l.open(dir, name) }

// metaStore is raft-wal's list of segments, and Raft's term and vote: each change is on the disk when it returns.
type metaStore struct{ d *disk }

// Load implements types.MetaStore.
func (m metaStore) Load(string) (types.PersistentState, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	return clonedState(m.d.wal), nil
}

// CommitState implements types.MetaStore.
func (m metaStore) CommitState(s types.PersistentState) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.d.wal = clonedState(s)
	return nil
}

// GetStable implements types.MetaStore.
func (m metaStore) GetStable(key []byte) ([]byte, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	return m.d.stable[string(key)], nil
}

// SetStable implements types.MetaStore.
func (m metaStore) SetStable(key, value []byte) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.d.stable[string(key)] = bytes.Clone(value)
	return nil
}

// Close implements types.MetaStore.
func (metaStore) Close() error { return nil }

// snapshots are published when they are closed, and not before.
type snapshots struct{ d *disk }

type snapshot struct {
	meta raft.SnapshotMeta
	body []byte
}

// sink is a snapshot that is being written.
type sink struct {
	d *disk
	s *snapshot
}

// Create implements raft.SnapshotStore.
func (s snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	id := fmt.Sprintf("%d-%d", term, index)
	return &sink{s.d, &snapshot{meta: raft.SnapshotMeta{
		Version: v, ID: id, Index: index, Term: term, Configuration: c, ConfigurationIndex: at,
	}}}, nil
}

// List implements raft.SnapshotStore.
func (s snapshots) List() (all []*raft.SnapshotMeta, err error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, snap := range s.d.snaps {
		meta := snap.meta
		all = append(all, &meta)
	}
	return all, nil
}

// Open implements raft.SnapshotStore.
func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, snap := range s.d.snaps {
		if snap.meta.ID == id {
			meta := snap.meta
			return &meta, io.NopCloser(bytes.NewReader(snap.body)), nil
		}
	}
	return nil, nil, fmt.Errorf("snapshot %s: %w", id, os.ErrNotExist)
}

// Write implements raft.SnapshotSink.
func (s *sink) Write(b []byte) (int, error) {
	s.s.body = append(s.s.body, b...)
	s.s.meta.Size += int64(len(b))
	return len(b), nil
}

// Close implements raft.SnapshotSink.
func (s *sink) Close() error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	const kept = 2
	s.d.snaps = append([]*snapshot{s.s}, s.d.snaps...)
	slices.SortStableFunc(s.d.snaps, func(a, b *snapshot) int { return cmp.Compare(b.meta.Index, a.meta.Index) })
	s.d.snaps = s.d.snaps[:min(len(s.d.snaps), kept)]
	return nil
}

// Cancel implements raft.SnapshotSink.
func (s *sink) Cancel() error { return nil }

// ID implements raft.SnapshotSink.
func (s *sink) ID() string { return s.s.meta.ID }
