package crdt

import (
	"bytes"

	"github.com/tidwall/btree"
)

// Mem is a Store in memory: ordered, and cloned without copying what it holds. It is for one goroutine at a time. The
// zero value is not usable; see NewMem.
type Mem struct {
	tree *btree.BTreeG[element]
	// near is, per class of element, where in the tree the last one was found: the next one is often beside it.
	near [1 << nearBits]btree.PathHint
}

// nearBits of its class tell an element's hint; for two classes to share one does no harm.
const nearBits = 5

// element is a key, followed by the value up to its capacity: in one piece of memory, which is never changed.
type element []byte

func newElement(k, v []byte) element {
	return append(append(make([]byte, 0, len(k)+len(v)), k...), v...)[:len(k)]
}

func (e element) value() []byte { return e[len(e):cap(e)] }

func byKey(a, b element) bool { return bytes.Compare(a, b) < 0 }

// NewMem returns an empty session.
func NewMem() *Mem { return &Mem{tree: btree.NewBTreeGOptions(byKey, btree.Options{NoLocks: true})} }

func (m *Mem) hint(key []byte) *btree.PathHint { return &m.near[key[0]&(1<<nearBits-1)] }

// Get implements Store.
func (m *Mem) Get(key []byte) []byte {
	e, ok := m.tree.GetHint(key, m.hint(key))
	if !ok {
		return nil
	}
	return e.value()
}

// Set implements Store.
func (m *Mem) Set(key, value []byte) { m.tree.SetHint(newElement(key, value), m.hint(key)) }

// Delete implements Store.
func (m *Mem) Delete(key []byte) { m.tree.DeleteHint(key, m.hint(key)) }

// Scan implements Store.
func (m *Mem) Scan(lo, hi []byte, reverse bool, visit func(key, value []byte) bool) {
	if !reverse {
		m.tree.Ascend(lo, func(e element) bool { return bytes.Compare(e, hi) < 0 && visit(e[:len(e):len(e)], e.value()) })
		return
	}
	m.tree.Descend(hi, func(e element) bool {
		if bytes.Equal(e, hi) {
			return true
		}
		return bytes.Compare(e, lo) >= 0 && visit(e[:len(e):len(e)], e.value())
	})
}

// Clone returns a copy that goes its own way; the two share what neither has changed.
func (m *Mem) Clone() *Mem { return &Mem{tree: m.tree.IsoCopy()} }
