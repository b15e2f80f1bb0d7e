package crdt

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naive is Mem's oracle: a map, sorted when it is looked at.
type naive map[string]string

func (n naive) scan(lo, hi string, reverse bool, limit int) (seen []string) {
	for _, k := range slices.Sorted(maps.Keys(n)) {
		if k >= lo && k < hi {
			seen = append(seen, k+"="+n[k])
		}
	}
	if reverse {
		slices.Reverse(seen)
	}
	return seen[:min(limit, len(seen))]
}

func scanned(st Store, lo, hi string, reverse bool, limit int) (seen []string) {
	st.Scan([]byte(lo), []byte(hi), reverse, func(k, v []byte) bool {
		if len(seen) < limit {
			seen = append(seen, string(k)+"="+string(v))
		}
		return len(seen) < limit
	})
	return seen
}

// TestMemIsAStore: it holds what was set last and shows it in order, and so do its clones, whatever happens to the others.
func TestMemIsAStore(t *testing.T) {
	keys := rapid.StringMatching(`[h-k][a-c]{0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		mems, naives := []*Mem{NewMem()}, []naive{{}}
		for i := range rapid.SampledFrom([]int{0, 0, 100, 100, 3000}).Draw(t, "held before") { // a tree of up to three levels
			k := fmt.Sprintf("%c%04d", 'h'+i%4, i)
			mems[0].Set([]byte(k), nil)
			naives[0][k] = ""
		}
		for step := range rapid.IntRange(1, 300).Draw(t, "steps") {
			i := rapid.IntRange(0, len(mems)-1).Draw(t, "which")
			m, n, k := mems[i], naives[i], keys.Draw(t, "key")
			switch rapid.IntRange(0, 9).Draw(t, "act") {
			case 0:
				mems, naives = append(mems, m.Clone()), append(naives, maps.Clone(n))
			case 1, 2:
				m.Delete([]byte(k))
				delete(n, k)
			case 3:
				hi, reverse, limit := keys.Draw(t, "hi"), rapid.Bool().Draw(t, "reverse"), rapid.IntRange(1, 9).Draw(t, "limit")
				if got, want := scanned(m, k, hi, reverse, limit), n.scan(k, hi, reverse, limit); !slices.Equal(got, want) {
					t.Fatalf("scan of %q to %q shows %q, want %q", k, hi, got, want)
				}
			default:
				v := []byte(fmt.Sprint(step)[:rapid.IntRange(0, 1).Draw(t, "size")])
				m.Set([]byte(k), v)
				n[k] = string(v)
				copy(v, "!") // the store has a copy of its own
			}
			v, ok := n[k]
			if got := m.Get([]byte(k)); string(got) != v || (got != nil) != ok {
				t.Fatalf("%q is %q, want %q", k, got, v)
			}
		}
		for i, m := range mems {
			if got, want := scanned(m, "\x00", "\xff", false, 1e6), naives[i].scan("\x00", "\xff", false, 1e6); !slices.Equal(got, want) {
				t.Fatalf("store %d holds %q, want %q", i, got, want)
			}
		}
	})
}

// TestMemIsOfOnePiece: what is appended to a key or a value that a store handed out stays outside of it.
func TestMemIsOfOnePiece(t *testing.T) {
	m := NewMem()
	m.Set([]byte("k"), []byte("value"))
	m.Scan([]byte("k"), []byte("l"), false, func(k, v []byte) bool {
		_ = append(k, '!')
		_ = append(v, '!')
		return true
	})
	if got := m.Get([]byte("k")); !bytes.Equal(got, []byte("value")) {
		t.Errorf("the value is %q", got)
	}
}
