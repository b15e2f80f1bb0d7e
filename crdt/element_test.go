package crdt

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// listed are a session's elements, as they are handed over.
func listed(st Store) (keys, values [][]byte) {
	everything(st, func(k, v []byte) { keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v)) })
	return keys, values
}

// TestDamagedElementsAreRefused: each element, cut short, with a byte too many, or under a key of another shape.
func TestDamagedElementsAreRefused(t *testing.T) {
	keys, values := listed(script().st)
	if err := CheckSession(keys, values); err != nil {
		t.Fatalf("what a region wrote: %v", err)
	}
	for i, k := range keys {
		v := values[i]
		for _, bad := range [][]byte{{}, k[:1], append([]byte{'z'}, k[1:]...), append(bytes.Clone(k), 0)} {
			if k[0] == classHeader && bytes.Equal(bad, k) {
				continue
			}
			if err := CheckElement(bad, v); err == nil {
				t.Errorf("%q is taken for the key of %q", bad, k)
			}
		}
		if k[0] != classText && k[0] != classPiece && k[0] != classDot {
			if err := CheckElement(k, append(bytes.Clone(v), 0)); err == nil {
				t.Errorf("%q is taken with a byte too many", k)
			}
		}
		if len(v) > 0 && k[0] != classText {
			if err := CheckElement(k, v[:1]); err == nil {
				t.Errorf("%q is taken with one byte", k)
			}
		}
	}
}

// TestIncompleteSessionsAreRefused: what is not in order, or lacks what something else of it needs.
func TestIncompleteSessionsAreRefused(t *testing.T) {
	keys, values := listed(script().st)
	last := len(keys) - 1
	swapped, other := append([][]byte{keys[1], keys[0]}, keys[2:]...), append([][]byte{values[1], values[0]}, values[2:]...)
	if err := CheckSession(swapped, other); err == nil {
		t.Error("keys out of order are taken")
	}
	if err := CheckSession(append(keys, keys[last]), append(values, values[last])); err == nil {
		t.Error("a key is taken twice")
	}
	for i, k := range keys {
		rest := func(l [][]byte) [][]byte { return append(append([][]byte{}, l[:i]...), l[i+1:]...) }
		err := CheckSession(rest(keys), rest(values))
		if needed := k[0] == classHeader || k[0] == classEntry && len(values[i]) > 0 || k[0] == classSlot && len(values[i]) > 0; needed != (err != nil) {
			t.Errorf("without %q: %v", k, err)
		}
	}
}

// FuzzCheckSession: what is taken for a session can be merged into another, either way round, and be shown, whatever it says.
func FuzzCheckSession(f *testing.F) {
	ours := script().st
	f.Add(Encode(ours))
	keys, values := listed(ours)
	for i := range keys { // small ones are where a fuzzer gets further
		var e enc
		e.element(1, keys[i])
		e.element(2, values[i])
		f.Add([]byte(e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var keys, values [][]byte
		for d := (dec{b: b}); d.next(); {
			v := d.member(true)
			if d.last = 0; d.num == 1 {
				keys, values = append(keys, v), append(values, nil)
			} else if len(keys) > 0 {
				values[len(keys)-1] = v
			}
		}
		if CheckSession(keys, values) != nil {
			return
		}
		theirs := NewMem()
		for i, k := range keys {
			theirs.Set(k, values[i])
		}
		joined, other := ours.Clone(), theirs.Clone()
		Merge(joined, theirs)
		Merge(other, ours)
		for _, st := range []*Mem{theirs, joined, other} {
			showAll(st)
		}
	})
}

// showAll reads all that a session can be asked for, and then removes it.
func showAll(st *Mem) {
	Page(st, 0, 1<<30)
	Map(st)
	Read(st)
	Since(st, nil)
	SinceBehind(st, Vector{1: 1})
	for _, run := range OpenRuns(st) {
		ReadSlot(st, run)
	}
	scanClass(st, classIdentity, func(oid string, _, _ []byte) { View(st, oid) })
	scanClass(st, classSlot, func(run string, _, _ []byte) { View(st, run) })
	o := NewOrigin("z", 1)
	Apply(st, &Op{Kind: KindForget, OID: "forget", Seen: ReadHeader(st).Seen.Clone(), Stamp: 1}, Dot{Origin: o, ID: o.ID(), F: 1 << 60})
	Encode(st)
}

// TestDamagedSessions: what another region sends is damaged in ways that read back, and whatever of it is taken can be merged and shown.
func TestDamagedSessions(t *testing.T) {
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		ours, theirs := w.regions[0].st, w.regions[1].st
		keys, values := listed(theirs)
		for range rapid.IntRange(1, 3).Draw(t, "damages") {
			if len(keys) < 2 {
				return
			}
			i, from := rapid.IntRange(0, len(keys)-1).Draw(t, "element"), rapid.IntRange(0, len(keys)-1).Draw(t, "from")
			switch rapid.IntRange(0, 3).Draw(t, "damage") {
			case 0:
				keys, values = slices.Delete(keys, i, i+1), slices.Delete(values, i, i+1)
			case 1:
				values[i] = values[from]
			case 2:
				values[i] = nil
			case 3:
				keys[i] = append(bytes.Clone(keys[i][:1]), keys[from][1:]...)
				slices.SortFunc(keys, bytes.Compare)
			}
		}
		if CheckSession(keys, values) != nil {
			return
		}
		taken++
		bad := NewMem()
		for i, k := range keys {
			bad.Set(k, values[i])
		}
		joined, other := ours.Clone(), bad.Clone()
		Merge(joined, bad)
		Merge(other, ours)
		for _, st := range []*Mem{bad, joined, other} {
			showAll(st)
		}
	})
	t.Logf("%d were taken", taken)
}
