package gateway

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// isResync checks that a client is shown the session anew, since what it has seen is gone, and with a token that says no more than that.
func (r *rig) isResync(snap frame, behind any) {
	r.t.Helper()
	if snap.str("why") != "resync" || snap["behind"] != behind {
		r.t.Errorf("%v", snap)
	}
	pos, err := r.g.tokens.Load().parse(snap.str("cur"), "alice", "alice/a")
	if err != nil || pos.seen[shanghai.ID()] != 0 || pos.floor.Seq != 41 {
		r.t.Errorf("the token says %+v, %v", pos, err)
	}
}

// TestTokenOfAClosedOrigin: what a token names above the end of an origin is not waited for, and its holder is told.
func TestTokenOfAClosedOrigin(t *testing.T) {
	r := newRig(t, Config{})
	r.f.finals = crdt.Finals{shanghai.ID(): 0}
	d := r.hello()
	d.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	r.isResync(d.want("snap"), nil)
	r.f.finals = crdt.Finals{shanghai.ID(): 1}
	d.say(`{"t":"open","id":3,"s":"alice/a","cur":%q}`, r.ahead())
	r.advance(time.Second)
	if delta := d.want("delta"); delta["behind"] != true {
		t.Errorf("what is below the end is not here yet: %v", delta)
	}
	if n := testutil.ToFloat64(r.g.metrics.resync.WithLabelValues("closed")); n != 1 {
		t.Errorf("%v were counted", n)
	}
}

// TestClosedWhileBehind: a region that is behind its client stops being so when the origin of what it lacks is closed.
func TestClosedWhileBehind(t *testing.T) {
	r := newRig(t, Config{})
	late, soon := r.hello(), r.hello()
	late.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	r.advance(400 * time.Millisecond)
	if delta := late.want("delta"); delta["behind"] != true {
		t.Errorf("%v", delta)
	}
	soon.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	r.f.finals = crdt.Finals{shanghai.ID(): 0}
	r.f.tell(wire.Event{Closed: 1 << crdt.PartitionOf("alice/a")})
	r.settle()
	r.isResync(late.want("snap"), false)
	r.isResync(soon.want("snap"), nil)
	r.advance(time.Minute)
	late.wants()
}

// TestNowhere: what no region holds, though all of them are heard, is not waited for either; as long as one is not heard it may be there.
func TestNowhere(t *testing.T) {
	r := newRig(t, Config{})
	d := r.hello()
	d.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	r.advance(time.Minute)
	if delta := d.want("delta"); delta["behind"] != true {
		t.Errorf("%v", delta)
	}
	r.f.elsewhere = crdt.Vector{shanghai.ID(): 1}
	r.advance(time.Minute)
	d.wants()
	r.f.elsewhere = crdt.Vector{shanghai.ID(): 0}
	r.advance(nowhereAfter)
	r.isResync(d.want("snap"), false)
	if n := testutil.ToFloat64(r.g.metrics.resync.WithLabelValues("nowhere")); n != 1 {
		t.Errorf("%v were counted", n)
	}
}

var chengdu = crdt.NewOrigin("chengdu", 1)

// TestNowhereIsNotForgotten: a client that has seen what is nowhere, and something else that its region goes on lacking, holds the one until it
// is told: its tokens go on saying so, since the next region has to tell it if this one did not come to that.
func TestNowhereIsNotForgotten(t *testing.T) {
	r := newRig(t, Config{})
	r.f.elsewhere = crdt.Vector{shanghai.ID(): 0, chengdu.ID(): 1}
	pos := position{seen: crdt.Vector{shanghai.ID(): 1, chengdu.ID(): 1}}
	d := r.opened(r.g.tokens.Load().mint(&pos, "alice", "alice/a"))
	r.advance(time.Second)
	if delta := d.want("delta"); delta["behind"] != true {
		t.Errorf("%v", delta)
	}
	r.advance(2 * nowhereAfter)
	r.hello().say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	cur := d.want("delta").str("cur")
	if pos, err := r.g.tokens.Load().parse(cur, "alice", "alice/a"); err != nil || pos.all()[shanghai.ID()] != 1 {
		t.Errorf("its token says %+v, %v", pos, err)
	}
	r.f.arrive(far(), chengdu)
	r.settle()
	if snap := d.want("snap"); snap.str("why") != "resync" || snap["behind"] != false {
		t.Errorf("%v", snap)
	}
	next := r.opened(cur)
	r.advance(time.Second)
	next.want("delta")
	r.advance(nowhereAfter)
	if snap := next.want("snap"); snap.str("why") != "resync" || snap["behind"] != false {
		t.Errorf("%v", snap)
	}
}

// TestWaitsGoOn: as long as a client waits, its partition goes on coming first: the way to what it waits for may not have been there when it
// came.
func TestWaitsGoOn(t *testing.T) {
	r := newRig(t, Config{})
	d := r.opened(r.ahead())
	r.advance(time.Second)
	d.want("delta")
	r.f.hastened = 0
	r.advance(time.Minute)
	if want := uint64(1) << crdt.PartitionOf("alice/a"); r.f.hastened != want {
		t.Errorf("hastened are %x, not %x", r.f.hastened, want)
	}
	d.say(`{"t":"close","id":3,"s":"alice/a"}`)
	r.advance(time.Minute)
	r.f.hastened = 0
	r.advance(time.Minute)
	if r.f.hastened != 0 {
		t.Errorf("nobody waits, and hastened are %x", r.f.hastened)
	}
}
