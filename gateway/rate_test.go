package gateway

import (
	"testing"
	"time"

	"github.com/roamsync/roam/wire"
)

// TestRateAndClock: a clock that is set back, or forward, gives a client no more than a burst and takes nothing from it.
func TestRateAndClock(t *testing.T) {
	for _, jump := range []time.Duration{-90 * time.Second, 90 * time.Second} {
		now := time.Unix(1_700_000_000, 0)
		b := newBucket(now)
		for range wire.MaxRate {
			b.take(now)
		}
		now = now.Add(jump)
		taken := 0
		for b.take(now) {
			taken++
		}
		if taken < wire.MaxRate || taken > 2*wire.MaxRate {
			t.Errorf("after a jump by %v a client with a burst of %d, half of it used, has %d left", jump, 2*wire.MaxRate, taken)
		}
		if now = now.Add(time.Second); !b.take(now) {
			t.Errorf("a second after a jump by %v nothing has come", jump)
		}
	}
}
