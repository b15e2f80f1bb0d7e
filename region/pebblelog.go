package region

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/hashicorp/raft"
)

const (
	sharedLog = "log" // directory
	// logMemtable is how much of the logs is in memory before it is written in order.
	logMemtable = 32 << 20
	logBlocks   = 8 << 20 // block cache: the log is seldom read from the disk
)

// pebbleLogs keeps the logs of all groups in one Pebble: writes that are under way at the same time share an fsync.
type pebbleLogs struct {
	db  *pebble.DB
	way *yielding
}

func (r *Region) openPebbleLogs(dir string) (*pebbleLogs, error) {
	cache := pebble.NewCache(logBlocks)
	defer cache.Unref()
	opts := &pebble.Options{
		Cache: cache, MemTableSize: logMemtable, MemTableStopWritesThreshold: 4, L0CompactionThreshold: 8, L0StopWritesThreshold: l0Most,
		FormatMajorVersion: pebble.FormatNewest,
	}
	way := &yielding{}
	r.listen(opts, "Raft log", way)
	for i := range opts.Levels {
		opts.Levels[i].Compression = func() *block.CompressionProfile { return block.NoCompression }
	}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("%w: restore the directory, or empty it, and the node gets what it held from the others", err)
	}
	return &pebbleLogs{db, way}, nil
}

func (l *pebbleLogs) close() error {
	l.way.hurried.Add(1) // Pebble waits for what it compacts
	return l.db.Close()
}

func (l *pebbleLogs) open(group int) (raft.LogStore, raft.StableStore, error) {
	g := &groupLog{db: l.db, group: byte(group)}
	if err := g.bounds(); err != nil {
		return nil, nil, err
	}
	return &recentLog{LogStore: g}, g, nil
}

// groupLog is one group's log and votes.
//
//	0x01 group index -> entry
//	0x02 group name  -> value
type groupLog struct {
	db          *pebble.DB
	group       byte
	first, last atomic.Uint64 // 0: there is no entry. Changed by Raft alone, one call at a time
}

func (g *groupLog) entryKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0x01, g.group}, index)
}

func (g *groupLog) valueKey(name []byte) []byte { return append([]byte{0x02, g.group}, name...) }

// bounds finds the ends of the log.
func (g *groupLog) bounds() error {
	it, err := g.db.NewIter(&pebble.IterOptions{LowerBound: g.entryKey(0), UpperBound: []byte{0x01, g.group + 1}})
	if err != nil {
		return err
	}
	if it.First() {
		g.first.Store(binary.BigEndian.Uint64(it.Key()[2:]))
	}
	if it.Last() {
		g.last.Store(binary.BigEndian.Uint64(it.Key()[2:]))
	}
	return errors.Join(it.Error(), it.Close())
}

// FirstIndex implements raft.LogStore.
func (g *groupLog) FirstIndex() (uint64, error) { return g.first.Load(), nil }

// LastIndex implements raft.LogStore.
func (g *groupLog) LastIndex() (uint64, error) { return g.last.Load(), nil }

// GetLog implements raft.LogStore.
func (g *groupLog) GetLog(index uint64, l *raft.Log) error {
	v, closer, err := g.db.Get(g.entryKey(index))
	if errors.Is(err, pebble.ErrNotFound) {
		return raft.ErrLogNotFound
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	l.Index = index
	return decodeEntry(v, l)
}

// StoreLog implements raft.LogStore.
func (g *groupLog) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. It returns when the entries are on the disk.
func (g *groupLog) StoreLogs(ls []*raft.Log) error {
	if len(ls) == 0 {
		return nil
	}
	b := g.db.NewBatch()
	defer b.Close()
	for _, l := range ls {
		op := b.SetDeferred(10, entrySize(l))
		op.Key[0], op.Key[1] = 0x01, g.group
		binary.BigEndian.PutUint64(op.Key[2:], l.Index)
		encodeEntry(op.Value, l)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	if g.first.Load() == 0 {
		g.first.Store(ls[0].Index)
	}
	g.last.Store(ls[len(ls)-1].Index)
	return nil
}

// DeleteRange implements raft.LogStore: from the beginning or to the end.
func (g *groupLog) DeleteRange(lo, hi uint64) error {
	if err := g.db.DeleteRange(g.entryKey(lo), g.entryKey(hi+1), pebble.Sync); err != nil {
		return err
	}
	first, last := g.first.Load(), g.last.Load()
	switch {
	case lo <= first && hi >= last:
		g.first.Store(0)
		g.last.Store(0)
	case lo <= first:
		g.first.Store(max(first, hi+1))
	case hi >= last:
		g.last.Store(lo - 1)
	default:
		return fmt.Errorf("entries %d to %d are in the middle of the log", lo, hi)
	}
	return nil
}

// IsMonotonic tells Raft that the log must not have gaps.
func (g *groupLog) IsMonotonic() bool { return true }

// errNotFound has the words that Raft expects of a StableStore that lacks a key.
var errNotFound = errors.New("not found")

// Set implements raft.StableStore.
func (g *groupLog) Set(k, v []byte) error { return g.db.Set(g.valueKey(k), v, pebble.Sync) }

// Get implements raft.StableStore.
func (g *groupLog) Get(k []byte) ([]byte, error) {
	v, closer, err := g.db.Get(g.valueKey(k))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return append([]byte{}, v...), nil
}

// SetUint64 implements raft.StableStore.
func (g *groupLog) SetUint64(k []byte, v uint64) error {
	return g.Set(k, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 implements raft.StableStore.
func (g *groupLog) GetUint64(k []byte) (uint64, error) {
	v, err := g.Get(k)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%q has %d bytes", k, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// An entry is its type, term, time in nanoseconds, the length of its data, the data, and its extensions.
const entryHead = 1 + 8 + 8 + 4

var errLogEntry = errors.New("entry of the Raft log does not read")

func entrySize(l *raft.Log) int { return entryHead + len(l.Data) + len(l.Extensions) }

func encodeEntry(b []byte, l *raft.Log) {
	b[0] = byte(l.Type)
	binary.BigEndian.PutUint64(b[1:], l.Term)
	at := int64(0)
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	binary.BigEndian.PutUint64(b[9:], uint64(at))
	binary.BigEndian.PutUint32(b[17:], uint32(len(l.Data)))
	copy(b[entryHead+copy(b[entryHead:], l.Data):], l.Extensions)
}

func decodeEntry(b []byte, l *raft.Log) error {
	if len(b) < entryHead {
		return errLogEntry
	}
	l.Type, l.Term = raft.LogType(b[0]), binary.BigEndian.Uint64(b[1:])
	l.AppendedAt = time.Time{}
	if at := int64(binary.BigEndian.Uint64(b[9:])); at != 0 {
		l.AppendedAt = time.Unix(0, at)
	}
	size := int(binary.BigEndian.Uint32(b[17:]))
	if b = b[entryHead:]; size > len(b) {
		return errLogEntry
	}
	l.Data = append(make([]byte, 0, size), b[:size]...)
	l.Extensions = append([]byte(nil), b[size:]...)
	return nil
}
