package check

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
)

// TestTapTellsWhatWasTaken: a message is told when its client asks for the next, also if that is after it has left; and it is not if the
// client never asks.
func TestTapTellsWhatWasTaken(t *testing.T) {
	var told []string
	tap := NewTap(func(b []byte) { told = append(told, string(b)) })
	want := func(all ...string) {
		t.Helper()
		if !slices.Equal(told, all) {
			t.Fatalf("told %q, want %q", told, all)
		}
	}
	tap.Asks()
	tap.Came([]byte("one"))
	want()
	tap.Asks()
	want("one")
	tap.Asks()
	want("one")
	tap.Came([]byte("two"))
	tap.Leaves()
	want("one")
	tap.Asks()
	want("one", "two")
	tap.Came([]byte("three"))
	want("one", "two")
}

// TestTapHoldsBackWhatIsSent until it is known whether what came was taken, and what is sent after the client has left for ever.
func TestTapHoldsBackWhatIsSent(t *testing.T) {
	for name, c := range map[string]struct {
		then func(*Tap, context.CancelFunc)
		goes bool
	}{
		"taken":       {func(t *Tap, _ context.CancelFunc) { t.Asks() }, true},
		"left":        {func(t *Tap, _ context.CancelFunc) { t.Leaves() }, false},
		"out of time": {func(_ *Tap, cancel context.CancelFunc) { cancel() }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tap, sent := NewTap(func([]byte) {}), make(chan bool, 2)
			if !tap.Sends(ctx) {
				t.Errorf("%s: nothing came, and nothing may be sent", name)
			}
			tap.Came([]byte("one"))
			go func() { sent <- tap.Sends(ctx) }()
			synctest.Wait()
			if len(sent) > 0 {
				t.Fatalf("%s: it is sent before it is known what was taken", name)
			}
			c.then(tap, cancel)
			if goes := <-sent; goes != c.goes || tap.Sends(ctx) != c.goes {
				t.Errorf("%s: it is sent: %v", name, goes)
			}
		})
	}
}
