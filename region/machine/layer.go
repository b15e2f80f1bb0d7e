package machine

import (
	"bytes"
	"slices"
	"strings"
)

// layer is what an entry changes of some keys, over a state that stays as it is meanwhile. It remembers what was read, too:
// applying an op looks at the same few elements again and again. It is as large as what one entry touches.
type layer struct {
	under   Reader
	hot     elements // what is known of under; may be nil
	held    map[string]*cell
	changed []*cell // in the order in which they first were
}

// cell is a key as the entry sees it.
type cell struct {
	key     string
	value   []byte // nil: there is none
	was     bool   // there was one, when it was changed first
	changed bool
}

func newLayer(under Reader, known elements) *layer {
	return &layer{under: under, hot: known, held: map[string]*cell{}}
}

// Get implements Reader. What it returns is not to be changed.
func (l *layer) Get(k []byte) ([]byte, error) {
	if c := l.held[string(k)]; c != nil {
		return c.value, nil
	}
	if v := l.hot[string(k)]; v != nil {
		l.hold(k).value = v
		return v, nil
	}
	v, err := l.under.Get(k)
	if err == nil {
		l.hold(k).value = v
	}
	return v, err
}

func (l *layer) hold(k []byte) *cell {
	c := &cell{key: string(k)}
	l.held[c.key] = c
	return c
}

// Set changes a key.
func (l *layer) Set(k, v []byte) error {
	l.change(k, append(make([]byte, 0, len(v)), v...))
	return nil
}

// Delete removes a key.
func (l *layer) Delete(k []byte) error {
	l.change(k, nil)
	return nil
}

func (l *layer) change(k, v []byte) {
	c := l.held[string(k)]
	if c == nil {
		c = l.hold(k)
	}
	if !c.changed {
		c.changed, c.was = true, c.value != nil
		l.changed = append(l.changed, c)
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
			more = visit([]byte(c.key), c.value)
		}
	}
	err := l.under.Scan(lo, hi, reverse, func(k, v []byte) bool {
		hidden := false
		for more && len(over) > 0 && !hidden {
			order := strings.Compare(over[0].key, string(k))
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
	for _, c := range l.changed {
		if c.key >= string(lo) && c.key < string(hi) {
			over = append(over, c)
		}
	}
	slices.SortFunc(over, func(a, b *cell) int {
		if reverse {
			a, b = b, a
		}
		return strings.Compare(a.key, b.key)
	})
	return over
}

// write puts the changes into a batch.
func (l *layer) write(b Batch) error {
	var key bytes.Buffer
	for _, c := range l.changed {
		key.Reset()
		key.WriteString(c.key)
		err := error(nil)
		if c.value == nil {
			err = b.Delete(key.Bytes())
		} else {
			err = b.Set(key.Bytes(), c.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
