package region

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// maxHeld bounds the keys and sums that say what is held, in bytes: they go in one message.
	maxHeld = 2 << 20
	// runsGrow is after how many runs they become twice as long, from partBytes on.
	runsGrow = 1024
)

// holding is what a node has already that is to take a state: the tables that earlier tries have staged, the latest first, and beyond them what the
// state was before. It need not be of one moment, nor true: a run counts only if its sum is that of the node that gives its state.
type holding struct {
	fs     vfs.FS
	tries  int // that have left tables
	tables []*heldTable
	spans  []span
	runs   []*peerpb.Run
	next   int // run, of those that are not found yet
}

// span is where some keys are read from, in order.
type span struct {
	from []byte // the first that counts
	scan scanner
}

// scanner shows the keys from lo to before hi.
type scanner func(lo, hi []byte, visit func(k, v []byte) bool) error

// heldTable is a table that an earlier try has staged.
type heldTable struct {
	path   string
	try, n int
	reader *sstable.Reader
	last   []byte
}

func tableName(try, n int) string { return fmt.Sprintf("%06d-%06d.sst", try, n) }

// openHeld reads what is held. Tables that do not read are removed.
func openHeld(fs vfs.FS, dir string, prefix []byte, own machine.Reader) (*holding, error) {
	h := &holding{fs: fs}
	if err := h.openTables(dir, prefix); err != nil {
		return nil, errors.Join(err, h.close())
	}
	from, _ := machine.Shared()
	for _, t := range h.tables {
		if bytes.Compare(t.last, from) < 0 {
			continue // a later try has come further
		}
		h.spans = append(h.spans, span{from, t.scanner(prefix)})
		from = after(t.last)
	}
	h.spans = append(h.spans, span{from, func(lo, hi []byte, visit func(k, v []byte) bool) error {
		return own.Scan(lo, hi, false, visit)
	}})
	if err := h.measure(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// openTables opens the tables in the order in which they count.
func (h *holding) openTables(dir string, prefix []byte) error {
	names, err := h.fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		t := &heldTable{path: filepath.Join(dir, name)}
		if _, err := fmt.Sscanf(name, "%06d-%06d.sst", &t.try, &t.n); err != nil || t.open(h.fs, prefix) != nil {
			if err := h.fs.RemoveAll(t.path); err != nil {
				return err
			}
			continue
		}
		h.tries = max(h.tries, t.try)
		h.tables = append(h.tables, t)
	}
	slices.SortFunc(h.tables, func(a, b *heldTable) int { return cmp.Or(cmp.Compare(b.try, a.try), cmp.Compare(a.n, b.n)) })
	return nil
}

// open opens a table and finds its last key, which is at least one.
func (t *heldTable) open(fs vfs.FS, prefix []byte) error {
	f, err := fs.Open(t.path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if t.reader, err = sstable.NewReader(context.Background(), readable, sstable.ReaderOptions{}); err != nil {
		return errors.Join(err, readable.Close())
	}
	err = t.scanner(prefix)(nil, nil, func(k, _ []byte) bool {
		t.last = append(t.last[:0], k...)
		return true
	})
	if err == nil && t.last == nil {
		err = errors.New("it is empty")
	}
	if err != nil {
		return errors.Join(err, t.reader.Close())
	}
	return nil
}

// scanner reads the table. Bounds that are nil are none.
func (t *heldTable) scanner(prefix []byte) scanner {
	return func(lo, hi []byte, visit func(k, v []byte) bool) error {
		at := reader{prefix: prefix}
		if lo != nil {
			lo, hi = bytes.Clone(at.key(lo)), bytes.Clone(at.key(hi))
		}
		it, err := t.reader.NewIter(sstable.NoTransforms, lo, hi, sstable.AssertNoBlobHandles)
		if err != nil {
			return err
		}
		kv := it.First()
		if lo != nil {
			kv = it.SeekGE(lo, 0)
		}
		for ; kv != nil; kv = it.Next() {
			v, _, err := kv.V.Value(nil)
			if err != nil {
				return errors.Join(err, it.Close())
			}
			if !visit(bytes.TrimPrefix(kv.K.UserKey, prefix), v) {
				break
			}
		}
		return errors.Join(it.Error(), it.Close())
	}
}

// measure divides what is held into runs.
func (h *holding) measure() error {
	sum, size, said := newChecksum(), 0, 0
	var last []byte
	end := func() {
		run := &peerpb.Run{Last: bytes.Clone(last), Sum: sum.sum()}
		h.runs, said = append(h.runs, run), said+len(run.Last)+len(run.Sum)
		sum, size = newChecksum(), 0
	}
	lo, hi := machine.Shared()
	err := h.scan(lo, hi, func(k, v []byte) error {
		sum.add(k, v)
		last = append(last[:0], k...)
		if size += len(k) + len(v); size < partBytes<<(len(h.runs)/runsGrow) {
			return nil
		}
		if end(); said > maxHeld {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err == nil && sum.count > 0 {
		end()
	}
	return err
}

var errEnough = errors.New("enough")

// find returns the bounds of a run, given its last key. Runs are found in order.
func (h *holding) find(last []byte) (lo, hi []byte, err error) {
	for ; h.next < len(h.runs); h.next++ {
		if !bytes.Equal(h.runs[h.next].Last, last) {
			continue
		}
		lo, _ = machine.Shared()
		if h.next > 0 {
			lo = after(h.runs[h.next-1].Last)
		}
		h.next++
		return lo, after(last), nil
	}
	return nil, nil, fmt.Errorf("%w: a run that was not asked for, or out of order", errState)
}

// scan shows what is held from lo to before hi, until visit returns an error.
func (h *holding) scan(lo, hi []byte, visit func(k, v []byte) error) error {
	for i, s := range h.spans {
		from, to := lo, hi
		if bytes.Compare(from, s.from) < 0 {
			from = s.from
		}
		if i+1 < len(h.spans) && bytes.Compare(h.spans[i+1].from, to) < 0 {
			to = h.spans[i+1].from
		}
		if bytes.Compare(from, to) >= 0 {
			continue
		}
		var stop error
		err := s.scan(from, to, func(k, v []byte) bool {
			stop = visit(k, v)
			return stop == nil
		})
		if err := errors.Join(err, stop); err != nil {
			return err
		}
	}
	return nil
}

// close lets the tables go.
func (h *holding) close() error {
	var errs []error
	for _, t := range h.tables {
		errs = append(errs, t.reader.Close())
	}
	h.tables = nil
	return errors.Join(errs...)
}

// pass removes the tables that a later try has come past, and has on the disk: what is staged twice takes room.
func (h *holding) pass(past []byte) error {
	var errs []error
	h.tables = slices.DeleteFunc(h.tables, func(t *heldTable) bool {
		if bytes.Compare(t.last, past) > 0 {
			return false
		}
		errs = append(errs, t.reader.Close(), h.fs.RemoveAll(t.path))
		return true
	})
	return errors.Join(errs...)
}
