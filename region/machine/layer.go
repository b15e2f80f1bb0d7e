package machine

import (
	"bytes"
	"slices"
)

// layer is what an entry changes of some keys, over a state that stays as it is meanwhile. It remembers what was read, too:
// applying an op looks at the same few elements again and again. It is as large as what one entry touches.
type layer struct {
	under Reader
	hot   elements       // what is known of under; may be nil
	mem   *arena         // of keys
	cells []cell         // in the order in which they were first looked at
	index map[string]int // of cells, once they are more than few; empty: they are not
	order []uint32       // of the cells that were changed, as they are written
}

// few is how many keys are found faster one after the other than by a map. Most sessions are touched by few ops of an entry.
const few = 8

// cell is a key as the entry sees it.
type cell struct {
	key     []byte
	value   []byte // nil: there is none
	was     bool   // there was one, when it was changed first
	changed bool
}

func newLayer(under Reader, known elements, mem *arena) *layer {
	return &layer{under: under, hot: known, mem: mem, cells: make([]cell, 0, few)}
}

// cellsKept bounds the cells for which a layer that is used again keeps room.
const cellsKept = 64

// reset makes it a layer over the same state that nothing was changed in.
func (l *layer) reset(known elements) {
	if l.hot = known; cap(l.cells) > cellsKept {
		l.cells, l.index, l.order = make([]cell, 0, few), nil, nil
	}
	clear(l.cells)
	clear(l.index)
	l.cells = l.cells[:0]
}

// find returns the cell of a key, nil if it was not looked at. It is valid until the next hold.
func (l *layer) find(k []byte) *cell {
	if len(l.index) > 0 {
		if i, ok := l.index[string(k)]; ok {
			return &l.cells[i]
		}
		return nil
	}
	for i := range l.cells {
		if bytes.Equal(l.cells[i].key, k) {
			return &l.cells[i]
		}
	}
	return nil
}

// hold returns a new cell of a key. It is valid until the next one.
func (l *layer) hold(k []byte) *cell {
	l.cells = append(l.cells, cell{key: l.mem.copy(k)})
	last := len(l.cells) - 1
	switch {
	case len(l.index) > 0:
		l.index[string(k)] = last
	case last == few:
		if l.index == nil {
			l.index = make(map[string]int, 4*few)
		}
		for i := range l.cells {
			l.index[string(l.cells[i].key)] = i
		}
	}
	return &l.cells[last]
}

// Get implements Reader. What it returns is not to be changed.
func (l *layer) Get(k []byte) ([]byte, error) {
	if c := l.find(k); c != nil {
		return c.value, nil
	}
	if held := l.hot[string(k)]; held != nil {
		l.hold(k).value = held.value
		return held.value, nil
	}
	v, err := l.under.Get(k)
	if err != nil {
		return nil, err
	}
	l.hold(k).value = v
	return v, nil
}

// Own changes a key to a value that the layer keeps.
func (l *layer) Own(k, v []byte) {
	if v == nil {
		v = []byte{}
	}
	l.change(k, v)
}

// Delete removes a key.
func (l *layer) Delete(k []byte) error {
	l.change(k, nil)
	return nil
}

func (l *layer) change(k, v []byte) {
	c := l.find(k)
	if c == nil {
		c = l.hold(k)
	}
	if !c.changed {
		c.changed, c.was = true, c.value != nil
	}
	c.value = v
}

// Scan implements Reader.
func (l *layer) Scan(lo, hi []byte, reverse bool, visit func(k, v []byte) bool) error {
	over := l.between(lo, hi, reverse)
	if len(over) == 0 {
		return l.under.Scan(lo, hi, reverse, visit)
	}
	more := true
	show := func(c *cell) {
		if c.value != nil {
			more = visit(c.key, c.value)
		}
	}
	err := l.under.Scan(lo, hi, reverse, func(k, v []byte) bool {
		hidden := false
		for more && len(over) > 0 && !hidden {
			order := bytes.Compare(over[0].key, k)
			if order != 0 && order > 0 != reverse {
				break // it comes after k
			}
			show(over[0])
			over, hidden = over[1:], order == 0
		}
		if more && !hidden {
			more = visit(k, v)
		}
		return more
	})
	for ; more && err == nil && len(over) > 0; over = over[1:] {
		show(over[0])
	}
	return err
}

// between returns what was changed in a range, in order.
func (l *layer) between(lo, hi []byte, reverse bool) (over []*cell) {
	for i := range l.cells {
		c := &l.cells[i]
		if c.changed && bytes.Compare(c.key, lo) >= 0 && bytes.Compare(c.key, hi) < 0 {
			over = append(over, c)
		}
	}
	slices.SortFunc(over, func(a, b *cell) int {
		if reverse {
			a, b = b, a
		}
		return bytes.Compare(a.key, b.key)
	})
	return over
}

// write puts the changes into a batch, in order of their keys: what is inserted next to one another costs the store less.
func (l *layer) write(b Batch) error {
	l.order = l.order[:0]
	for i := range l.cells {
		if l.cells[i].changed {
			l.order = append(l.order, uint32(i))
		}
	}
	slices.SortFunc(l.order, func(i, j uint32) int { return bytes.Compare(l.cells[i].key, l.cells[j].key) })
	for _, i := range l.order {
		c, err := &l.cells[i], error(nil)
		if c.value == nil {
			err = b.Delete(c.key)
		} else {
			err = b.Set(c.key, c.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
