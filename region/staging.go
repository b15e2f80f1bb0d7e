package region

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// tableBytes is of keys and values in one staged table. One that a crash cuts short is lost.
const tableBytes = 32 << 20

// staging is a state on its way in.
type staging struct {
	intake
	fs     vfs.FS
	dir    string
	try    int    // of whose tables these are
	prefix []byte // of the keys in the database
	db     *pebble.DB
	tables []string
	writer *sstable.Writer
	size   int    // of the table that is being written
	whole  []byte // last key of the tables that are on the disk
}

// intake checks a state as it comes.
type intake struct {
	sum      *checksum
	bytes    uint64 // of keys and values
	last     []byte // key
	complete bool
	applied  uint64 // Raft index, once complete
}

// clear removes what is staged.
func (s *staging) clear() error {
	if s.writer != nil {
		s.writer.Close() // of an attempt that is given up
		s.writer = nil
	}
	if err := s.fs.RemoveAll(s.dir); err != nil {
		return err
	}
	return s.fs.MkdirAll(s.dir, 0o755)
}

var errState = errors.New("bad state")

func (s *staging) add(part *peerpb.StatePart) error {
	if err := s.take(part, s.set); err != nil || !s.complete {
		return err
	}
	return s.finish()
}

// one gives set a key and its value, if it follows what came before.
func (s *intake) one(k, v []byte, set func(k, v []byte) error) error {
	lo, hi := machine.Shared()
	if bytes.Compare(k, s.last) <= 0 || bytes.Compare(k, lo) < 0 || bytes.Compare(k, hi) >= 0 {
		return fmt.Errorf("%w: keys are not in order", errState)
	}
	s.last = append(s.last[:0], k...)
	s.sum.add(k, v)
	s.bytes += uint64(len(k) + len(v))
	return set(k, v)
}

// take gives set the keys and values of a part, if it follows what came before.
func (s *intake) take(part *peerpb.StatePart, set func(k, v []byte) error) error {
	if len(part.Keys) != len(part.Values) {
		return fmt.Errorf("%w: %d keys, %d values", errState, len(part.Keys), len(part.Values))
	}
	for i, k := range part.Keys {
		if err := s.one(k, part.Values[i], set); err != nil {
			return err
		}
	}
	if !part.Last {
		return nil
	}
	if part.Count != s.sum.count || !bytes.Equal(part.Sum, s.sum.sum()) {
		return fmt.Errorf("%w: %d keys came, %d were sent, or their sums differ", errState, s.sum.count, part.Count)
	}
	s.complete, s.applied = true, part.Applied
	return nil
}

func (s *staging) set(k, v []byte) error {
	if s.writer == nil {
		path := filepath.Join(s.dir, tableName(s.try, len(s.tables)))
		f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		s.tables, s.size = append(s.tables, path), 0
		s.writer = sstable.NewWriter(objstorageprovider.NewFileWritable(f), sstable.WriterOptions{TableFormat: s.db.TableFormat()})
	}
	at := append(slices.Clone(s.prefix), k...)
	if s.size += len(k) + len(v); s.size > tableBytes {
		return errors.Join(s.writer.Set(at, v), s.finish())
	}
	return s.writer.Set(at, v)
}

// finish has the table that is being written on the disk.
func (s *staging) finish() error {
	if s.writer == nil {
		return nil
	}
	err := s.writer.Close()
	if s.writer = nil; err == nil {
		s.whole = bytes.Clone(s.last)
	}
	return err
}
