package region

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// faultDisk is a disk in memory of which a write, a sync or anything else that changes it can be made to fail or to hang.
type faultDisk struct {
	mem   *vfs.MemFS
	files vfs.FS // mem, with faults
	meta  *faultMeta
	snaps *faultSnaps

	ops    atomic.Int64                   // that change the disk
	before func(n int64, op string) error // asked before each of them; nil: none fails
}

func newFaultDisk() *faultDisk {
	d := &faultDisk{mem: vfs.NewCrashableMem(), snaps: &faultSnaps{}}
	d.snaps.d = d
	d.meta = &faultMeta{d: d, stable: map[string][]byte{}}
	d.wrap()
	return d
}

func (d *faultDisk) wrap() {
	d.files = errorfs.Wrap(d.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFileFlush,
			errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			return d.change(op.Path)
		}
		return nil
	}))
}

func (d *faultDisk) change(op string) error {
	n := d.ops.Add(1)
	if d.before == nil {
		return nil
	}
	return d.before(n, op)
}

// config is for a node alone that writes to its state often.
func (d *faultDisk) config() Config {
	return Config{
		Region: "beijing", Node: "n1", Dir: "/data", MemtableBytes: 64 << 10, SnapshotEntries: 8, TrailingEntries: 8, leave: 20 * time.Millisecond,
		Disk: &Disk{Files: d.files, Log: faultLog{d.files}, Meta: d.meta, Snapshots: d.snaps, Forget: func() error { return nil }},
	}
}

// crash returns what is left when power fails now: what was synced, and some of the rest.
func (d *faultDisk) crash(rng *rand.Rand) *faultDisk {
	d.meta.mu.Lock()
	defer d.meta.mu.Unlock()
	left := &faultDisk{mem: d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})}
	left.meta = &faultMeta{d: left, wal: d.meta.wal, stable: maps.Clone(d.meta.stable)}
	left.meta.wal.Segments = slices.Clone(d.meta.wal.Segments)
	left.snaps = &faultSnaps{d: left, last: d.snaps.last}
	left.wrap()
	return left
}

// faultMeta is raft-wal's list of segments, and Raft's term and vote: a change is on the disk when it returns.
type faultMeta struct {
	d *faultDisk

	mu     sync.Mutex
	wal    types.PersistentState
	stable map[string][]byte
}

// Load implements types.MetaStore.
func (m *faultMeta) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.wal
	s.Segments = slices.Clone(s.Segments)
	return s, nil
}

// CommitState implements types.MetaStore.
func (m *faultMeta) CommitState(s types.PersistentState) error {
	if err := m.d.change("segments"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Segments = slices.Clone(s.Segments)
	m.wal = s
	return nil
}

// GetStable implements types.MetaStore.
func (m *faultMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stable[string(key)], nil
}

// SetStable implements types.MetaStore.
func (m *faultMeta) SetStable(key, value []byte) error {
	if err := m.d.change("votes"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stable[string(key)] = slices.Clone(value)
	return nil
}

// Close implements types.MetaStore.
func (*faultMeta) Close() error { return nil }

// faultSnaps keeps the last snapshot, once it is closed. It implements raft.SnapshotStore.
type faultSnaps struct {
	d    *faultDisk
	last *faultSnap // guarded by d.meta.mu
}

type faultSnap struct {
	d    *faultDisk
	meta raft.SnapshotMeta
	body []byte
}

// Create implements raft.SnapshotStore.
func (s *faultSnaps) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &faultSnap{d: s.d, meta: raft.SnapshotMeta{Version: v, ID: fmt.Sprint(index), Index: index, Term: term, Configuration: c, ConfigurationIndex: at}},
		s.d.change("snapshot")
}

// List implements raft.SnapshotStore.
func (s *faultSnaps) List() ([]*raft.SnapshotMeta, error) {
	s.d.meta.mu.Lock()
	defer s.d.meta.mu.Unlock()
	if s.last == nil {
		return nil, nil
	}
	meta := s.last.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

// Open implements raft.SnapshotStore.
func (s *faultSnaps) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.d.meta.mu.Lock()
	defer s.d.meta.mu.Unlock()
	meta := s.last.meta
	return &meta, io.NopCloser(bytes.NewReader(s.last.body)), nil
}

// Write implements raft.SnapshotSink.
func (s *faultSnap) Write(b []byte) (int, error) {
	s.body = append(s.body, b...)
	s.meta.Size += int64(len(b))
	return len(b), nil
}

// Close implements raft.SnapshotSink.
func (s *faultSnap) Close() error {
	if err := s.d.change("snapshot"); err != nil {
		return err
	}
	s.d.meta.mu.Lock()
	defer s.d.meta.mu.Unlock()
	s.d.snaps.last = s
	return nil
}

// ID implements raft.SnapshotSink.
func (s *faultSnap) ID() string { return s.meta.ID }

// Cancel implements raft.SnapshotSink.
func (*faultSnap) Cancel() error { return nil }

// faultLog has raft-wal's segments on a vfs.FS. What was never written reads as zeros.
type faultLog struct{ fs vfs.FS }

type faultSegment struct{ vfs.File }

const segmentSize = 64 << 20

// ReadAt implements types.ReadableFile.
func (f faultSegment) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	if !errors.Is(err, io.EOF) || off+int64(n) >= segmentSize {
		return n, err
	}
	zeros := min(int64(len(b)), segmentSize-off)
	clear(b[n:zeros])
	if zeros < int64(len(b)) {
		return int(zeros), io.EOF
	}
	return int(zeros), nil
}

// ListDir implements types.VFS.
func (l faultLog) ListDir(dir string) ([]string, error) { return l.fs.List(dir) }

// Create implements types.VFS.
func (l faultLog) Create(dir, name string, _ uint64) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	if _, err := l.fs.Stat(path); err == nil {
		return nil, fmt.Errorf("create %s: it is there", path)
	}
	f, err := l.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return faultSegment{f}, syncDir(l.fs, dir)
}

// Delete implements types.VFS.
func (l faultLog) Delete(dir, name string) error { return l.fs.Remove(filepath.Join(dir, name)) }

// OpenReader implements types.VFS.
func (l faultLog) OpenReader(dir, name string) (types.ReadableFile, error) {
	f, err := l.fs.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return faultSegment{f}, nil
}

// OpenWriter implements types.VFS.
func (l faultLog) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := l.fs.OpenReadWrite(filepath.Join(dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return faultSegment{f}, nil
}
