package gateway

import (
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// logOf are the oids of a snap's log.
func logOf(f frame) (oids []string) {
	for _, e := range f["log"].([]any) {
		oids = append(oids, frame(e.(map[string]any)).str("oid"))
	}
	return oids
}

func (r *rig) opened(cur string) *driven {
	r.t.Helper()
	d := r.hello()
	d.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, cur)
	return d
}

// TestForgetIsShownToAll: the ok of who put it goes before the snap, with a cur from before; others get the snap.
func TestForgetIsShownToAll(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.opened(""), r.opened("")
	a.want("snap")
	b.want("snap")
	a.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	before := a.want("ok").str("cur")
	b.want("delta")
	a.say(`{"t":"put","id":4,"s":"alice/a","ops":[{"k":"msg","oid":"n","text":"x"},{"k":"forget","oid":"f"},{"k":"msg","oid":"o","text":"x"}]}`)
	frames := a.wants("ok", "snap")
	if frames[0].str("cur") != before {
		t.Error("the cur of the ok covers the snap that comes after it")
	}
	for _, snap := range []frame{frames[1], b.want("snap")} {
		if got := logOf(snap); snap.str("why") != "floor" || len(got) != 1 || got[0] != "o" || snap["id"] != nil || snap["more"] != false {
			t.Errorf("got %v", snap)
		}
	}
	for cur, want := range map[string]string{before: "snap", frames[1].str("cur"): "delta"} {
		if f := r.opened(cur).want(want); want == "snap" && (f.str("why") != "floor" || f["id"] != 2.0) {
			t.Errorf("resumed with %v", f)
		}
	}
}

// TestRetryOfWhatWasRemoved: the ok of an op that is gone is followed by what the session is.
func TestRetryOfWhatWasRemoved(t *testing.T) {
	r := newRig(t, Config{})
	a := r.opened("")
	a.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	a.say(`{"t":"put","id":4,"s":"alice/a","ops":[{"k":"forget","oid":"f"}]}`)
	a.wants("snap", "ok", "ok", "snap")
	a.say(`{"t":"put","id":5,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	if frames := a.wants("ok", "snap"); frames[1].str("why") != "floor" || len(logOf(frames[1])) != 0 {
		t.Errorf("got %v", frames[1])
	}
	a.say(`{"t":"put","id":6,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"y"}]}`)
	if f := a.want("err"); f.str("code") != "conflict" {
		t.Errorf("got %v", f)
	}
	a.say(`{"t":"put","id":7,"s":"alice/a","ops":[{"k":"run","oid":"r","of":"m"}]}`)
	if f := a.want("err"); f.str("code") != "not_found" {
		t.Errorf("got %v", f)
	}
}

// TestOkThatHasWaited: it may place what was removed meanwhile.
func TestOkThatHasWaited(t *testing.T) {
	r := newRig(t, Config{})
	r.f.reach = wire.Reach{}
	a, b := r.opened(""), r.opened("")
	a.want("snap")
	b.want("snap")
	a.say(`{"t":"put","id":3,"s":"alice/a","regions":1,"ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	a.wants()
	b.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"forget","oid":"f"}]}`)
	a.want("snap")
	r.advance(regionsWait)
	if frames := a.wants("ok", "snap"); len(logOf(frames[1])) != 0 {
		t.Errorf("got %v", frames[1])
	}
}

// TestRemovalWhileBehind: a client that has seen something elsewhere loses it for a while, and gets it back.
func TestRemovalWhileBehind(t *testing.T) {
	r := newRig(t, Config{})
	other := crdt.NewOrigin("shanghai", 1)
	arrive := func(op *crdt.Op) {
		r.f.arrive(op, other)
		r.settle()
	}
	a := r.opened("")
	a.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	home := a.wants("snap", "ok")[1].str("cur")
	pos, err := r.g.tokens.Load().parse(home, "alice", "alice/a")
	if err != nil {
		t.Fatal(err)
	}
	pos.seen[other.ID()] = 1
	a = r.opened(r.g.tokens.Load().mint(&pos, "alice", "alice/a"))
	r.advance(time.Second)
	if f := a.want("delta"); f["behind"] != true {
		t.Fatalf("got %v", f)
	}
	r.hello().say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"forget","oid":"f"}]}`)
	snap := a.want("snap")
	if snap["behind"] != true || len(logOf(snap)) != 0 {
		t.Errorf("got %v", snap)
	}
	arrive(&crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "n", Text: "x", Seq: 2, Stamp: 5 << 16})
	frames := a.wants("delta", "delta")
	if len(frames[0]["ops"].([]any)) != 1 || frames[1]["behind"] != false {
		t.Errorf("got %v", frames)
	}
	again := r.opened(snap.str("cur")).want("delta")
	if len(again["ops"].([]any)) != 1 {
		t.Errorf("who comes back with the cur of the snap gets %v", again)
	}
}

// TestRemovalSeenElsewhere: a client that knows of a removal that its region does not have is shown the session anew as soon as it
// has, by its feed or as another region's copy, also if the region goes on being behind.
func TestRemovalSeenElsewhere(t *testing.T) {
	other := crdt.NewOrigin("shanghai", 1)
	for _, merged := range []bool{false, true} {
		for _, seen := range []uint64{1, 2} {
			r := newRig(t, Config{})
			a := r.opened("")
			a.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
			a.wants("snap", "ok")
			pos := position{seen: crdt.Vector{other.ID(): seen}}
			b := r.opened(r.g.tokens.Load().mint(&pos, "alice", "alice/a"))
			r.advance(time.Second)
			if f := b.want("delta"); f["behind"] != true || len(f["ops"].([]any)) != 1 {
				t.Fatalf("got %v", f)
			}
			forget := &crdt.Op{Kind: crdt.KindForget, Session: "alice/a", OID: "f", Seen: crdt.Vector{r.f.self.ID(): 1}, Stamp: 5 << 16}
			if merged {
				r.f.merge(forget, other)
			} else {
				r.f.arrive(forget, other)
			}
			r.settle()
			types := []string{"snap"}
			if seen == 1 {
				types = append(types, "delta")
			}
			frames := b.wants(types...)
			if snap := frames[0]; snap["behind"] != true || snap.str("why") != "floor" || len(logOf(snap)) != 0 {
				t.Errorf("got %v", snap)
			}
			if f := frames[len(frames)-1]; seen == 1 && (f["behind"] != false || len(f["ops"].([]any)) != 0) {
				t.Errorf("got %v", f)
			}
		}
	}
}

// TestRemovalBetweenTwoOpens: as above, but the client is away when the removal arrives, or opens the session again.
func TestRemovalBetweenTwoOpens(t *testing.T) {
	other := crdt.NewOrigin("shanghai", 1)
	for _, away := range []bool{false, true} {
		r := newRig(t, Config{})
		a := r.opened("")
		a.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
		a.wants("snap", "ok")
		pos := position{seen: crdt.Vector{other.ID(): 3}}
		home := r.g.tokens.Load().mint(&pos, "alice", "alice/a")
		b := r.opened(home)
		r.advance(time.Second)
		cur := b.want("delta").str("cur")
		r.f.arrive(&crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "n", Text: "x", Seq: 2, Stamp: 4 << 16}, other)
		if away {
			b = r.hello()
		} else {
			cur = home // as if the delta had not come
		}
		r.f.quietly(&crdt.Op{Kind: crdt.KindForget, Session: "alice/a", OID: "f", Seen: crdt.Vector{r.f.self.ID(): 1}, Stamp: 5 << 16}, other)
		b.say(`{"t":"open","id":7,"s":"alice/a","cur":%q}`, cur)
		r.advance(time.Second)
		if f := b.want("snap"); f["behind"] != true || f.str("why") != "floor" || len(logOf(f)) != 1 {
			t.Errorf("away: %t: got %v", away, f)
		}
	}
}

// TestRemovalBeforeTheAnswer: a client that knows of a removal puts again what that took, in a region that does not have it yet, and is told
// so before its open is answered.
func TestRemovalBeforeTheAnswer(t *testing.T) {
	r := newRig(t, Config{})
	r.f.reach = wire.Reach{}
	other := crdt.NewOrigin("shanghai", 1)
	pos := position{seen: crdt.Vector{other.ID(): 2}}
	a := r.opened(r.g.tokens.Load().mint(&pos, "alice", "alice/a"))
	a.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	a.say(`{"t":"put","id":4,"s":"alice/a","regions":1,"ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	a.want("ok")
	op := &crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "m", Text: "x", Role: "user", User: "alice", Seq: 1, Stamp: 4 << 16}
	r.f.arrive(op, other)
	r.f.arrive(&crdt.Op{Kind: crdt.KindForget, Session: "alice/a", OID: "f", Seen: crdt.Vector{other.ID(): 1}, Stamp: 5 << 16}, other)
	r.settle()
	if f := a.want("snap"); f.str("why") != "floor" || len(logOf(f)) != 0 {
		t.Errorf("got %v", f)
	}
	r.advance(regionsWait)
	if frames := a.wants("ok", "snap"); len(logOf(frames[1])) != 0 {
		t.Errorf("got %v", frames[1])
	}
}

// TestOkOfWhatIsGoneAlready: a put's turn comes after the client was shown a session from which it was removed already: its ok would bring it
// back.
func TestOkOfWhatIsGoneAlready(t *testing.T) {
	r := newRig(t, Config{})
	other := crdt.NewOrigin("shanghai", 1)
	a := r.opened("")
	a.want("snap")
	forget := func(oid string, seen crdt.Vector) {
		r.f.arrive(&crdt.Op{Kind: crdt.KindForget, Session: "alice/a", OID: oid, Seen: seen, Stamp: 5 << 16}, other)
	}
	forget("f1", crdt.Vector{})
	a.receive(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	forget("f2", crdt.Vector{r.f.self.ID(): 1})
	r.settle()
	frames := a.wants("snap", "ok", "snap")
	if last := frames[2]; last.str("why") != "floor" || len(logOf(last)) != 0 {
		t.Errorf("got %v", last)
	}
	if frames[1].str("cur") != frames[0].str("cur") {
		t.Error("the cur of the ok covers the snap that comes after it")
	}
}

// TestShownByTwoThatWereBehind: of two regions that were behind, one had a removal and the other had not. What the second has shown the client
// may hold, so the next region that has the removal shows the session anew.
func TestShownByTwoThatWereBehind(t *testing.T) {
	other := crdt.NewOrigin("shanghai", 1)
	with, without := crdt.Vector{other.ID(): 2}, crdt.Vector{}
	pos := position{seen: crdt.Vector{other.ID(): 3}, shown: with.Clone(), lent: least(with, without)}
	for _, c := range []struct {
		lent crdt.Vector
		want string
	}{{pos.lent, "snap"}, {with, "delta"}} {
		r := newRig(t, Config{})
		r.f.quietly(&crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "m", Text: "x", Seq: 1, Stamp: 3 << 16}, other)
		r.f.quietly(&crdt.Op{Kind: crdt.KindForget, Session: "alice/a", OID: "f", Seen: crdt.Vector{other.ID(): 1}, Stamp: 4 << 16}, other)
		r.f.quietly(&crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "n", Text: "x", Seq: 2, Stamp: 5 << 16}, other)
		pos.lent = c.lent
		a := r.opened(r.g.tokens.Load().mint(&pos, "alice", "alice/a"))
		a.want(c.want)
	}
}

// TestOkOfARegionThatWasBehind: a setting put again in a region that is behind stands there where the client has seen that it does not; when
// the region has caught up, the client is told where it stands.
func TestOkOfARegionThatWasBehind(t *testing.T) {
	r := newRig(t, Config{})
	other := crdt.NewOrigin("shanghai", 1)
	b := r.opened("")
	b.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"set","key":"title","oid":"s","v":"mine"}]}`)
	cur := b.wants("snap", "ok")[1].str("cur")
	pos, err := r.g.tokens.Load().parse(cur, "alice", "alice/a")
	if err != nil {
		t.Fatal(err)
	}
	pos.seen[other.ID()] = 1
	a := r.opened(r.g.tokens.Load().mint(&pos, "alice", "alice/a"))
	r.advance(time.Second)
	a.want("delta")
	a.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"set","key":"title","oid":"s","v":"mine"}]}`)
	a.want("ok")
	r.f.arrive(&crdt.Op{Kind: crdt.KindSet, Session: "alice/a", OID: "s", Key: "title", Value: []byte(`"mine"`), User: "alice", Stamp: 4 << 16}, other)
	r.settle()
	last := a.wants("delta")[0]
	if ops := last["ops"].([]any); last["behind"] != false || len(ops) != 1 || frame(ops[0].(map[string]any)).str("oid") != "s" {
		t.Errorf("got %v", last)
	}
}

// TestOkBeforeARegionThatIsBehindAnswers: as above, but the client puts before its open is answered, or opens the session again after it.
func TestOkBeforeARegionThatIsBehindAnswers(t *testing.T) {
	other := crdt.NewOrigin("shanghai", 1)
	const put = `{"t":"put","id":4,"s":"alice/a","ops":[{"k":"set","key":"title","oid":"s","v":"mine"}]}`
	for name, come := range map[string]func(r *rig, a *driven, cur string){
		"before the answer": func(r *rig, a *driven, _ string) {
			a.say(put)
			a.want("ok")
			r.advance(time.Second)
		},
		"before the answer, which another open replaces": func(r *rig, a *driven, cur string) {
			a.say(put)
			a.want("ok")
			a.say(`{"t":"open","id":5,"s":"alice/a","cur":%q}`, cur)
			r.advance(time.Second)
		},
		"after the answer, before another open": func(r *rig, a *driven, cur string) {
			r.advance(time.Second)
			a.say(put)
			a.wants("delta", "ok")
			a.say(`{"t":"open","id":5,"s":"alice/a","cur":%q}`, cur)
			r.advance(time.Second)
		},
	} {
		r := newRig(t, Config{})
		b := r.opened("")
		b.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"set","key":"title","oid":"s","v":"mine"}]}`)
		pos, err := r.g.tokens.Load().parse(b.wants("snap", "ok")[1].str("cur"), "alice", "alice/a")
		if err != nil {
			t.Fatal(err)
		}
		pos.seen[other.ID()] = 1
		cur := r.g.tokens.Load().mint(&pos, "alice", "alice/a")
		a := r.opened(cur)
		come(r, a, cur)
		if f := a.want("delta"); f["behind"] != true {
			t.Errorf("%s: got %v", name, f)
		}
		r.f.arrive(&crdt.Op{Kind: crdt.KindSet, Session: "alice/a", OID: "s", Key: "title", Value: []byte(`"mine"`), User: "alice", Stamp: 4 << 16}, other)
		r.settle()
		last := a.want("delta")
		if ops := last["ops"].([]any); last["behind"] != false || len(ops) != 1 || frame(ops[0].(map[string]any)).str("oid") != "s" {
			t.Errorf("%s: got %v", name, last)
		}
	}
}
