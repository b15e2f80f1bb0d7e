package replication

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestIntake: commits that take longer the more there are at a time find a number at which they do not take much longer; those that
// take as long as ever find the greatest.
func TestIntake(t *testing.T) {
	for name, c := range map[string]struct {
		each     time.Duration // for a record that is being committed
		min, max int
	}{"a disk that keeps up": {0, maxIntake - pieces, maxIntake}, "one that does not": {20 * time.Microsecond, minIntake, 1024}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var i intake
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				var running sync.WaitGroup
				for range 80 {
					running.Go(func() {
						for i.enter(ctx, pieces, false) == nil {
							i.mu.Lock()
							took := time.Millisecond + time.Duration(i.flying)*c.each
							i.mu.Unlock()
							time.Sleep(took)
							i.leave(pieces, took, time.Now())
						}
					})
				}
				running.Wait()
				if i.window < c.min || i.window > c.max || i.flying != 0 || len(i.waiting) != 0 {
					t.Errorf("%d records at a time, %d under way, %d wait", i.window, i.flying, len(i.waiting))
				}
			})
		})
	}
}

const pieces = 128

// TestIntakeAlone: a piece that is larger than the bound goes alone; who gives up makes room for the next.
func TestIntakeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i intake
		if err := i.enter(t.Context(), 10*minIntake, false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if i.enter(ctx, 1, false) == nil {
				t.Error("it is let in beside one that fills all")
			}
		})
		synctest.Wait()
		cancel()
		running.Wait()
		i.leave(10*minIntake, time.Millisecond, time.Now())
		if err := i.enter(t.Context(), 1, false); err != nil || i.flying != 1 {
			t.Error(err, i.flying)
		}
	})
}

// TestIntakeFirst: what clients wait for goes before what waits longer, in order among its like.
func TestIntakeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i intake
		if err := i.enter(t.Context(), minIntake, false); err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		var order []int
		for n, first := range []bool{false, true, false, true} {
			running.Go(func() {
				if i.enter(t.Context(), minIntake, first) == nil {
					order = append(order, n) // one at a time
					i.leave(minIntake, time.Millisecond, time.Now())
				}
			})
			synctest.Wait()
		}
		i.leave(minIntake, time.Hour, time.Now()) // so slow that no more are let in at a time
		running.Wait()
		if want := []int{1, 3, 0, 2}; !slices.Equal(order, want) {
			t.Errorf("let in in the order %v, want %v", order, want)
		}
	})
}
