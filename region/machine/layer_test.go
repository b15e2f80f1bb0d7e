package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

// TestLayerIsAStore: what is read over a layer is what would be read if the changes had been made, before they are and after.
func TestLayerIsAStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.Custom(func(t *rapid.T) []byte { return fmt.Appendf(nil, "%02d", rapid.IntRange(0, 20).Draw(t, "key")) })
		under, want := NewMem(), NewMem()
		for range rapid.IntRange(0, 10).Draw(t, "held") {
			k := key.Draw(t, "k")
			under.Set(k, k)
			want.Set(k, k)
		}
		l := newLayer(under, nil, &arena{})
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			k := key.Draw(t, "k")
			switch rapid.SampledFrom([]string{"get", "set", "delete", "scan"}).Draw(t, "do") {
			case "get":
				got, _ := l.Get(k)
				if there, _ := want.Get(k); string(got) != string(there) || (got == nil) != (there == nil) {
					t.Fatalf("%s is %q, want %q", k, got, there)
				}
			case "set":
				v := []byte(rapid.SampledFrom([]string{"", "v", "w"}).Draw(t, "v"))
				l.Own(k, v)
				want.Set(k, v)
			case "delete":
				l.Delete(k)
				want.tree.Delete(pair{k: k})
			case "scan":
				hi, reverse, limit := key.Draw(t, "hi"), rapid.Bool().Draw(t, "reverse"), rapid.IntRange(1, 9).Draw(t, "limit")
				if got, there := scanned(l, k, hi, reverse, limit), scanned(want, k, hi, reverse, limit); !slices.Equal(got, there) {
					t.Fatalf("%s to %s: %v, want %v", k, hi, got, there)
				}
			}
		}
		b := under.Batch()
		l.write(b)
		b.Commit()
		if got, there := scanned(under, nil, []byte("99"), false, 99), scanned(want, nil, []byte("99"), false, 99); !slices.Equal(got, there) {
			t.Fatalf("it wrote %v, want %v", got, there)
		}
	})
}

func scanned(r Reader, lo, hi []byte, reverse bool, limit int) (all []string) {
	r.Scan(lo, hi, reverse, func(k, v []byte) bool {
		all = append(all, string(k)+"="+string(v))
		return len(all) < limit
	})
	return all
}

// TestHashOfAnElement: it is the same whichever way it is worked out, and that of other versions.
func TestHashOfAnElement(t *testing.T) {
	s := &sessionStore{prefix: sessionPrefix(3, "alice/1")}
	for _, size := range []int{0, 1, 400, shortElement - 30, shortElement, 5000} {
		k, v := []byte("e-key"), bytes.Repeat([]byte("v"), size)
		all := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(s.prefix))), uint32(len(k)))
		all = slices.Concat(all, []byte("\x03alice/1\x00"), k, v)
		if got, want := s.hash(k, v), xxhash.Sum64(all); got != want {
			t.Errorf("of %d bytes: %x, want %x", size, got, want)
		}
	}
}
