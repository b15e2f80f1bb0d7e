package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

var shanghai = crdt.NewOrigin("shanghai", 2)

// ahead is the token of a client that has seen the first op of shanghai, which is far.
func (r *rig) ahead() string {
	return r.g.tokens.Load().mint(&position{seen: crdt.Vector{shanghai.ID(): 1}, floor: crdt.Floor{Seq: 41, Stamp: 1 << 40}}, "alice", "alice/a")
}

func far() *crdt.Op {
	return &crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "far", Text: "y", Seq: 41, Stamp: 1 << 40}
}

// TestConnOpensCovered: what the region covers is answered in the same Work, without a timer.
func TestConnOpensCovered(t *testing.T) {
	r := newRig(t, Config{})
	d := r.hello()
	d.say(`{"t":"open","id":2,"s":"alice/a"}`)
	cur := d.want("snap").str("cur")
	d.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	d.want("ok")
	d.say(`{"t":"open","id":4,"s":"alice/a","cur":%q}`, cur)
	if delta := d.want("delta"); len(delta["ops"].([]any)) != 1 || delta["behind"] != nil {
		t.Errorf("%v", delta)
	}
	if len(r.clock.timers) != 0 {
		t.Errorf("%d timers", len(r.clock.timers))
	}
}

// TestConnOpenedAnewPutsAfterWhatWasSeen: a client that asks for all of a session again, without a cur, has seen what it came with all the same. So do its
// next tokens say, and a bad one changes nothing.
func TestConnOpenedAnewPutsAfterWhatWasSeen(t *testing.T) {
	for _, cur := range []string{"", `,"cur":"x"`} {
		r := newRig(t, Config{})
		d := r.hello()
		d.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
		d.say(`{"t":"open","id":3,"s":"alice/a"%s}`, cur)
		snap := d.want("snap")
		if pos, err := r.g.tokens.Load().parse(snap.str("cur"), "alice", "alice/a"); err != nil || pos.floor.Seq != 41 {
			t.Errorf("the token says %+v, %v", pos, err)
		}
		d.say(`{"t":"put","id":4,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
		if ok := d.want("ok"); ok["at"].([]any)[0].(map[string]any)["seq"] != 42.0 {
			t.Errorf("a put after what the client has seen: %v", ok)
		}
	}
}

// TestConnOpensBehind: an open waits until the region has what its client has seen, or BehindAfter; then the client is told
// when the region has caught up.
func TestConnOpensBehind(t *testing.T) {
	r := newRig(t, Config{})
	soon, late := r.hello(), r.hello()
	late.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	r.advance(399 * time.Millisecond)
	late.wants()
	soon.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	r.advance(time.Millisecond)
	if delta := late.want("delta"); delta["behind"] != true || delta["id"] != 2.0 {
		t.Errorf("%v", delta)
	}
	soon.wants()
	r.f.arrive(far(), shanghai)
	r.settle()
	if delta := soon.want("delta"); delta["behind"] != nil || delta["id"] != 2.0 {
		t.Errorf("in time: %v", delta)
	}
	if delta := late.want("delta"); delta["behind"] != false || len(delta["ops"].([]any)) != 0 {
		t.Errorf("caught up: %v", delta)
	}
	r.advance(time.Minute)
	soon.wants()
	late.wants()
}

// TestConnCatchesUpWithMoreInItsQueue: what tells the client that the region has caught up shows the session as it is then, and so
// what waits in the queue behind it is not sent again.
func TestConnCatchesUpWithMoreInItsQueue(t *testing.T) {
	r := newRig(t, Config{})
	d := r.hello()
	d.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	r.advance(400 * time.Millisecond)
	d.want("delta")
	r.f.arrive(far(), shanghai)
	next := far()
	next.OID, next.Seq, next.Stamp = "next", 42, 1<<40+1
	r.f.arrive(next, shanghai)
	r.settle()
	delta := d.want("delta")
	if ops := delta["ops"].([]any); delta["behind"] != false || len(ops) != 1 || ops[0].(map[string]any)["oid"] != "next" {
		t.Errorf("%v", delta)
	}
	d.say(`{"t":"open","id":3,"s":"alice/a","cur":%q}`, delta.str("cur"))
	if again := d.want("delta"); len(again["ops"].([]any)) != 0 {
		t.Errorf("the token does not cover what was sent: %v", again)
	}
}

// TestConnOpensAgainWhileItWaits: a client that does not wait for its first answer, and starts anew, must not get it later:
// its cur would cover what the client may have dropped since.
func TestConnOpensAgainWhileItWaits(t *testing.T) {
	r := newRig(t, Config{})
	d := r.hello()
	d.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	d.wants()
	d.say(`{"t":"open","id":3,"s":"alice/a"}`)
	d.want("snap")
	r.advance(time.Minute)
	d.wants()
	r.f.arrive(far(), shanghai)
	r.settle()
	if delta := d.want("delta"); len(delta["ops"].([]any)) != 1 {
		t.Errorf("%v", delta)
	}
}

// TestConnClosesBeforeItIsAnswered: nothing waits for a session that was closed before its open was looked at.
func TestConnClosesBeforeItIsAnswered(t *testing.T) {
	r := newRig(t, Config{})
	d := r.hello()
	d.receive(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, r.ahead())
	d.say(`{"t":"close","id":3,"s":"alice/a"}`)
	d.want("ok")
	if n := len(r.g.hub.shards[crdt.PartitionOf("alice/a")].waiting); n != 0 {
		t.Errorf("%d wait", n)
	}
	r.advance(time.Minute)
	d.wants()
}

// TestConnPutsAtTheirPlace: the ok stands between what was applied before its put and what was after, in the order of the
// region, though all of it was queued before the connection worked.
func TestConnPutsAtTheirPlace(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.hello(), r.hello()
	for _, d := range []*driven{a, b} {
		d.say(`{"t":"open","id":2,"s":"alice/a"}`)
		d.want("snap")
	}
	for i, d := range []*driven{b, a, b} {
		d.receive(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m%d","text":"x"}]}`, i)
	}
	r.settle()
	got := a.wants("delta", "ok", "delta")
	for i, oid := range []string{"m0", "", "m2"} {
		if oid != "" && got[i]["ops"].([]any)[0].(map[string]any)["oid"] != oid {
			t.Errorf("%d: %v", i, got[i])
		}
	}
	b.wants("ok", "delta", "ok")
	a.say(`{"t":"open","id":4,"s":"alice/a","cur":%q}`, got[1].str("cur"))
	if ops := a.want("delta")["ops"].([]any); len(ops) != 1 || ops[0].(map[string]any)["oid"] != "m2" {
		t.Errorf("after the ok: %v", ops)
	}
}

// TestConnsAreWokenInOrder: of those that have a session open, the first to open is woken first, whoever came and went.
func TestConnsAreWokenInOrder(t *testing.T) {
	r := newRig(t, Config{})
	var all []*driven
	for range 40 {
		d := r.hello()
		d.say(`{"t":"open","id":2,"s":"alice/a"}`)
		all = append(all, d)
	}
	for i := 30; i >= 0; i -= 10 {
		all[i].c.End()
		all = slices.Delete(all, i, i+1)
	}
	r.f.arrive(far(), shanghai)
	if !slices.Equal(r.woken, all) {
		t.Error("an event wakes in another order")
	}
	r.f.reached = nil
	r.f.setReach(wire.Reach{})
	for i, d := range all {
		d.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m%d","text":"x"}]}`, i)
	}
	r.settle()
	r.f.setReach(wire.Reach{Regions: 1, Safe: true})
	r.g.Recheck()
	r.clock.advance(safeWithin)
	if !slices.Equal(r.woken, all) {
		t.Error("an acknowledgement wakes in another order")
	}
}

// TestOnlyWhoWaitsIsWoken: what other regions acknowledge wakes those whose ops have become safe by it, and nobody else.
func TestOnlyWhoWaitsIsWoken(t *testing.T) {
	r := newRig(t, Config{})
	r.f.reached = []func(){r.g.Recheck}
	reader, writer, waiting := r.hello(), r.hello(), r.hello()
	r.f.setReach(wire.Reach{})
	writer.say(`{"t":"put","id":2,"s":"alice/a","ops":[{"k":"msg","oid":"m1","text":"x"}]}`)
	waiting.say(`{"t":"put","id":2,"s":"alice/b","regions":2,"ops":[{"k":"msg","oid":"m2","text":"x"}]}`)
	r.settle()
	for _, step := range []struct {
		to    wire.Reach
		woken []*driven
	}{{wire.Reach{}, nil}, {wire.Reach{Regions: 1, Safe: true}, []*driven{writer}}, {wire.Reach{Regions: 2, Safe: true}, []*driven{waiting}}, {wire.Reach{Regions: 3, Safe: true}, nil}} {
		r.f.setReach(step.to)
		r.clock.advance(safeWithin)
		if !slices.Equal(r.woken, step.woken) {
			t.Errorf("%+v wakes %d, not %d", step.to, len(r.woken), len(step.woken))
		}
		r.settle()
	}
	writer.wants("ok", "safe")
	waiting.wants("ok")
	reader.wants()
}

// TestSafeComesAlong: what has become safe is told with the next message to the client, or soon; an ok that is held for it at once.
func TestSafeComesAlong(t *testing.T) {
	r := newRig(t, Config{})
	r.f.reached = []func(){r.g.Recheck}
	r.f.setReach(wire.Reach{})
	d := r.hello()
	put := func(id int, more string) {
		d.say(`{"t":"put","id":%d,"s":"alice/a"%s,"ops":[{"k":"msg","oid":"m%d","text":"x"}]}`, id, more, id)
	}
	put(2, "")
	d.wants("ok")
	r.f.setReach(wire.Reach{Regions: 1, Safe: true})
	r.settle()
	d.wants()
	d.say(`{"t":"open","id":9,"s":"alice/b"}`)
	d.wants("snap", "safe")
	r.f.setReach(wire.Reach{})
	put(3, "")
	d.wants("ok")
	r.f.setReach(wire.Reach{Regions: 1, Safe: true})
	r.advance(safeWithin - 1)
	d.wants()
	r.advance(1)
	d.wants("safe")
	r.f.setReach(wire.Reach{})
	put(4, "")
	put(5, `,"regions":1`)
	d.wants("ok")
	r.f.setReach(wire.Reach{Regions: 1, Safe: true})
	r.settle()
	d.wants("ok", "safe")
}

// TestConnIsTooSlow: what does not fit the queue costs the connection, with a reason, and nothing else is kept.
func TestConnIsTooSlow(t *testing.T) {
	r := newRig(t, Config{})
	d, other := r.hello(), r.hello()
	d.say(`{"t":"open","id":2,"s":"alice/a"}`)
	d.want("snap")
	for i := range queueItems + 1 {
		op := far()
		op.OID, op.Seq = fmt.Sprintf("m%d", i), uint64(i+1)
		r.f.arrive(op, shanghai)
	}
	if err := d.c.Work(); !errors.Is(err, errEnded) {
		t.Fatal(err)
	}
	if e := d.want("err"); e.str("code") != "unavailable" || d.closed != wire.StatusTooSlow {
		t.Errorf("%v, %v", e, d.closed)
	}
	if n := testutil.ToFloat64(r.g.metrics.dropped.WithLabelValues("slow_client")); n != 1 {
		t.Errorf("%v were counted", n)
	}
	other.say(`{"t":"open","id":2,"s":"alice/a"}`)
	other.want("snap")
}

// TestConnWaitsForRegions: an ok is held until its put is in as many regions as it asked for, or for regionsWait.
func TestConnWaitsForRegions(t *testing.T) {
	r := newRig(t, Config{})
	r.f.reached = []func(){r.g.Recheck}
	r.f.setReach(wire.Reach{})
	d := r.hello()
	put := func(id int) {
		d.say(`{"t":"put","id":%d,"s":"alice/a","regions":2,"ops":[{"k":"msg","oid":"m%d","text":"x"}]}`, id, id)
	}
	put(3)
	r.f.setReach(wire.Reach{Regions: 1})
	r.advance(regionsWait - 1)
	d.wants()
	r.advance(1)
	if ok := d.want("ok"); ok["id"] != 3.0 || ok["regions"] != 1.0 || ok["safe"] != false {
		t.Errorf("too late: %v", ok)
	}
	put(4)
	d.wants()
	r.f.setReach(wire.Reach{Regions: 2, Safe: true})
	r.settle()
	got := d.wants("ok", "safe")
	if got[0]["id"] != 4.0 || got[0]["regions"] != 2.0 || fmt.Sprint(got[1]["oids"]) != "[m3]" {
		t.Errorf("in time: %v", got)
	}
	r.advance(time.Minute)
	d.wants()
}

// TestConnEndsWithItsToken: by the gateway's clock, and not if a fresh one came in time.
func TestConnEndsWithItsToken(t *testing.T) {
	life := map[string]time.Duration{"short": time.Minute, "long": time.Hour}
	r := newRig(t, Config{Auth: authFunc(func(token string) (Identity, error) {
		return Identity{User: "alice", Expires: unixZero.Add(life[token])}, nil
	})})
	stays, goes := r.connect(), r.connect()
	for _, d := range []*driven{stays, goes} {
		d.say(`{"t":"hello","id":1,"token":"short","device":"phone"}`)
		d.want("welcome")
	}
	stays.say(`{"t":"auth","id":2,"token":"long"}`)
	stays.want("ok")
	r.advance(time.Minute)
	stays.wants()
	if e := goes.want("err"); e.str("code") != "unauthorized" || goes.closed != wire.StatusExpired {
		t.Errorf("%v, %v", e, goes.closed)
	}
}

// TestFreshTokenGrantsLess: what it does not grant any more is not sent any more, and the client is told; the rest goes on.
func TestFreshTokenGrantsLess(t *testing.T) {
	grants := map[string]map[string]string{"wide": {"bob/*": "r", "carol/x": "rw"}, "narrow": {"carol/x": "r"}}
	r := newRig(t, Config{Auth: authFunc(func(token string) (Identity, error) {
		return Identity{User: token[:strings.Index(token, ":")], Grants: grants[token[strings.Index(token, ":")+1:]]}, nil
	})})
	d, bob := r.connect(), r.connect()
	for who, c := range map[string]*driven{"alice:wide": d, "bob:": bob} {
		c.say(`{"t":"hello","id":1,"token":%q,"device":"phone"}`, who)
		c.want("welcome")
	}
	for i, s := range []string{"alice/a", "bob/a", "bob/b", "carol/x"} {
		d.say(`{"t":"open","id":%d,"s":%q}`, i+2, s)
		d.want("snap")
	}
	d.say(`{"t":"auth","id":9,"token":"alice:narrow"}`)
	got := d.wants("ok", "err", "err")
	if got[1].str("s") != "bob/a" || got[2].str("s") != "bob/b" || got[2].str("code") != "forbidden" {
		t.Errorf("it is told %v", got)
	}
	bob.say(`{"t":"put","id":2,"s":"bob/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	bob.want("ok")
	d.wants()
	d.say(`{"t":"put","id":10,"s":"carol/x","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	if e := d.want("err"); e.str("code") != "forbidden" {
		t.Errorf("it may write: %v", e)
	}
	d.say(`{"t":"put","id":11,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	d.want("ok")
}

type authFunc func(string) (Identity, error)

func (f authFunc) Authenticate(token string) (Identity, error) { return f(token) }

// TestConnIsOver: after a write that failed, or End, nothing is written or held, whatever comes.
func TestConnIsOver(t *testing.T) {
	r := newRig(t, Config{MaxConns: 2})
	cut, ended := r.hello(), r.hello()
	if _, err := r.g.Connect(cut, func() {}); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	for _, d := range []*driven{cut, ended} {
		d.say(`{"t":"open","id":2,"s":"alice/a"}`)
		d.want("snap")
	}
	for _, d := range []*driven{cut, ended} {
		d.receive(`{"t":"open","id":2,"s":"alice/b","cur":"x"}`)
	}
	cut.broken = errBroken
	if err := cut.c.Work(); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	cut.broken = nil
	if err := cut.c.Work(); !errors.Is(err, errBroken) {
		t.Errorf("it works on: %v", err)
	}
	for range 2 {
		cut.c.End()
		ended.c.End()
	}
	if ended.c.Work() == nil {
		t.Error("it works on after its end")
	}
	r.woken = nil
	r.f.arrive(far(), shanghai)
	r.g.Recheck()
	if len(r.woken)+len(cut.lines)+len(ended.lines) > 0 {
		t.Errorf("%d are woken; written: %q %q", len(r.woken), cut.lines, ended.lines)
	}
	if n := testutil.ToFloat64(r.g.metrics.open) + testutil.ToFloat64(r.g.metrics.conns); n != 0 {
		t.Errorf("%v are held", n)
	}
	r.connect()
}

// TestConnRefusesLongFrames, whoever owns it.
func TestConnRefusesLongFrames(t *testing.T) {
	r := newRig(t, Config{})
	d := r.hello()
	d.say(`{"t":"pong","x":"%s"}`, strings.Repeat("x", wire.MaxFrame))
	if e := d.want("err"); e.str("code") != "too_large" {
		t.Errorf("%v", e)
	}
}

// TestConnIsFreshenedWhileItWorks: Receive and Work may run at the same time, which the race detector looks at.
func TestConnIsFreshenedWhileItWorks(t *testing.T) {
	r := newRig(t, Config{})
	d := r.hello()
	d.say(`{"t":"open","id":2,"s":"alice/a"}`)
	d.want("snap")
	for i := range 50 {
		op := far()
		op.OID = fmt.Sprintf("m%d", i)
		r.f.arrive(op, shanghai)
		var reading sync.WaitGroup
		reading.Go(func() { d.c.Receive([]byte(`{"t":"auth","id":3,"token":"dev:alice"}`)) })
		d.c.Work()
		reading.Wait()
		d.c.Work()
	}
	count := map[string]int{}
	for _, line := range d.lines {
		count[line[:10]]++
	}
	if count[`{"t":"ok",`] != 50 || count[`{"t":"delt`] != 50 {
		t.Errorf("%v", count)
	}
}
