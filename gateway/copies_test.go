package gateway

import (
	"slices"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// copyAt is a copy of a message of alice that stands at a place of its origin.
func copyAt(seq uint64) *crdt.Op {
	op := &crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "m", Text: "x", Role: "user", User: "alice", Device: "phone"}
	op.Seq, op.Stamp = seq, crdt.Stamp(seq+2)<<16
	return op
}

// shownElsewhere is a client that has seen a message where it stands at home, and was then shown a copy of it by a region that did not have
// that; also, if lost, what is nowhere any more.
func (r *rig) shownElsewhere(lost bool) *driven {
	r.f.arrive(copyAt(1), r.f.self)
	copied := crdt.Vector{chengdu.ID(): 1}
	pos := position{seen: crdt.Vector{r.f.self.ID(): 1}, shown: copied, lent: copied}
	if lost {
		pos.seen[shanghai.ID()], r.f.finals = 1, crdt.Finals{shanghai.ID(): 0}
	}
	d := r.opened(r.g.tokens.Load().mint(&pos, "alice", "alice/a"))
	r.advance(time.Second)
	return d
}

// arrivals are the ways in which an op comes from another region.
var arrivals = []func(*fake, *crdt.Op, crdt.Origin){(*fake).arrive, (*fake).merge}

// isOnly checks that a delta has these ops and no other ones.
func (r *rig) isOnly(delta frame, behind any, oids ...string) {
	r.t.Helper()
	var got []string
	for _, op := range delta["ops"].([]any) {
		got = append(got, frame(op.(map[string]any)).str("oid"))
	}
	if !slices.Equal(got, oids) || delta["behind"] != behind {
		r.t.Errorf("%v", delta)
	}
}

// TestCopyShownElsewhere: who may hold a copy that does not stand is sent what does when that copy arrives, and nothing for a third one.
func TestCopyShownElsewhere(t *testing.T) {
	for _, arrives := range arrivals {
		r := newRig(t, Config{})
		d := r.shownElsewhere(false)
		r.isOnly(d.want("delta"), true)
		arrives(r.f, copyAt(2), chengdu)
		r.settle()
		frames := d.wants("delta", "delta")
		r.isOnly(frames[0], frames[0]["behind"], "m")
		r.isOnly(frames[1], false)
		arrives(r.f, copyAt(3), crdt.NewOrigin("chengdu", 2))
		r.settle()
		d.wants()
	}
}

// TestShownAnewHoldsWhatStands: who was shown the session anew holds no such copy any more, though its region is still behind.
func TestShownAnewHoldsWhatStands(t *testing.T) {
	for _, arrives := range arrivals {
		r := newRig(t, Config{})
		d := r.shownElsewhere(true)
		if snap := d.want("snap"); snap.str("why") != whyResync || snap["behind"] != true || !slices.Equal(logOf(snap), []string{"m"}) {
			t.Errorf("%v", snap)
		}
		arrives(r.f, copyAt(2), chengdu)
		r.settle()
		r.isOnly(d.want("delta"), false)
		arrives(r.f, copyAt(3), crdt.NewOrigin("chengdu", 2))
		r.settle()
		d.wants()
	}
}
