package wan

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// TestRandomActsAreHealed: whatever a seed has happen is over in time, and the same seed has the same happen.
func TestRandomActsAreHealed(t *testing.T) {
	seen := map[Deed]bool{}
	for seed := range uint64(300) {
		for _, nodes := range []int{1, 3} {
			length := 300 * second
			acts := randomActs(length, 3, nodes, true, seed)
			if !reflect.DeepEqual(acts, randomActs(length, 3, nodes, true, seed)) {
				t.Fatalf("seed %d: not the same twice", seed)
			}
			if left := unhealed(acts, length-calmAfter, seen); len(left) > 0 {
				t.Errorf("seed %d, %d nodes: %v", seed, nodes, left)
			}
		}
	}
	for _, d := range []Deed{Set, Kill, Wipe, Start, Skew, Freeze, Thaw, Travel} {
		if !seen[d] {
			t.Errorf("no seed has %d", d)
		}
	}
}

// unhealed says what is left, or out of turn, or too late.
func unhealed(acts []Act, end time.Duration, seen map[Deed]bool) (left map[string]string) {
	left = map[string]string{}
	down, still, off, wiped := map[[2]int]bool{}, map[int]bool{}, map[int]time.Duration{}, time.Duration(-calmWipe)
	ways := map[[2]int]Shape{}
	for i, a := range acts {
		seen[a.Do] = true
		if a.At > end && a.Do != Travel || i > 0 && a.At < acts[i-1].At {
			left["time"] = fmt.Sprintf("%+v at %s", a, a.At)
		}
		switch node := [2]int{a.From, a.Node}; a.Do {
		case Set:
			ways[[2]int{a.From, a.To}] = a.Shape
		case Kill:
			down[node] = true
		case Wipe:
			if !down[node] || a.At-wiped < calmWipe {
				left["wipe"] = fmt.Sprint(a.At)
			}
			wiped = a.At
		case Start:
			delete(down, node)
		case Skew:
			off[a.From] = a.Offset
		case Freeze:
			still[a.From] = true
		case Thaw:
			delete(still, a.From)
		}
	}
	for way, s := range ways {
		if s != (Shape{}) {
			left[fmt.Sprint("way ", way)] = s.String()
		}
	}
	for region, by := range off {
		if by != 0 {
			left[fmt.Sprint("clock ", region)] = by.String()
		}
	}
	if len(down)+len(still) > 0 {
		left["down"] = fmt.Sprint(down, still)
	}
	return left
}
