package machine

import (
	"bytes"

	"github.com/google/btree"
)

// Mem is a Store in memory. Its copies are cheap: they share what neither has changed. It is not for several
// goroutines at once.
type Mem struct{ tree *btree.BTreeG[pair] }

type pair struct{ k, v []byte }

func byKey(a, b pair) bool { return bytes.Compare(a.k, b.k) < 0 }

// degree of the tree: a batch copies the nodes that it changes.
const degree = 8

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{btree.NewG(degree, byKey)} }

// Clone is a store that holds the same, and goes its own way.
func (m *Mem) Clone() *Mem { return &Mem{m.tree.Clone()} }

// Get implements Reader. What it returns is not to be changed.
func (m *Mem) Get(k []byte) ([]byte, error) {
	p, _ := m.tree.Get(pair{k: k})
	return p.v[:len(p.v):len(p.v)], nil
}

// Scan implements Reader.
func (m *Mem) Scan(lo, hi []byte, reverse bool, visit func(k, v []byte) bool) error {
	if !reverse {
		m.tree.AscendRange(pair{k: lo}, pair{k: hi}, func(p pair) bool { return visit(p.k, p.v) })
		return nil
	}
	m.tree.DescendLessOrEqual(pair{k: hi}, func(p pair) bool {
		if bytes.Equal(p.k, hi) {
			return true
		}
		return bytes.Compare(p.k, lo) >= 0 && visit(p.k, p.v)
	})
	return nil
}

// Snapshot implements Store.
func (m *Mem) Snapshot() Snapshot { return memBatch{m.Clone(), nil} }

// Batch implements Store.
func (m *Mem) Batch() Batch { return memBatch{m.Clone(), m} }

// Set puts a value outside of any batch.
func (m *Mem) Set(k, v []byte) {
	m.tree.ReplaceOrInsert(pair{bytes.Clone(k), append([]byte{}, v...)})
}

type memBatch struct {
	*Mem
	of *Mem
}

func (b memBatch) Set(k, v []byte) error {
	b.Mem.Set(k, v)
	return nil
}

func (b memBatch) Delete(k []byte) error {
	b.tree.Delete(pair{k: k})
	return nil
}

func (b memBatch) DeleteRange(lo, hi []byte) error {
	var gone []pair
	b.tree.AscendRange(pair{k: lo}, pair{k: hi}, func(p pair) bool {
		gone = append(gone, p)
		return true
	})
	for _, p := range gone {
		b.tree.Delete(p)
	}
	return nil
}

func (b memBatch) Commit() error {
	b.of.tree = b.tree
	return nil
}

func (memBatch) Close() error { return nil }
