package wan

import (
	"testing"
	"time"
)

func TestTalkCountsOnceWhatComesInAnyOrder(t *testing.T) {
	k := newTalk("u/s", "u", 3, time.Now())
	now := k.start.Add(time.Second)
	show := func(device int) { k.shown(device, []tapped{{K: "msg", OID: "m"}}, now) }
	want := func(reached int) {
		t.Helper()
		if k.reached != reached {
			t.Errorf("%d are shown to all, want %d", k.reached, reached)
		}
	}
	show(1)
	show(2)
	want(0)
	k.sending(0, "m", 0, true, 0) // the note of it comes last
	want(1)
	show(0)
	show(1)
	want(1)
	if k.waiting != 1 {
		t.Errorf("%d questions wait", k.waiting)
	}
	for range 2 {
		k.shown(1, []tapped{{K: "run", OID: "r", Of: "m", State: "done"}}, now)
		k.stored([]tapped{{OID: "m"}}, now)
	}
	if k.waiting != 0 || k.acked != 1 {
		t.Errorf("%d questions wait, %d are acknowledged", k.waiting, k.acked)
	}
}
