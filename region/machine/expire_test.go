package machine

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// later applies a command at a time after that of all others.
func (a *alone) later(c *Command, at time.Time) Result {
	a.t.Helper()
	c.Stamp(&a.clock, at)
	a.index++
	res, err := a.Apply(a.index, EncodeEntryOf(ExpireLevel, [][]byte{c.Encode()}), false)
	if err != nil {
		a.t.Fatal(err)
	}
	return res[0]
}

// elements counts what is held of a session.
func (a *alone) elements(session string) (keys, bytes int) {
	a.t.Helper()
	prefix := sessionPrefix(crdt.PartitionOf(session), session)
	if err := a.cfg.Store.Scan(prefix, upper(prefix), false, func(k, v []byte) bool {
		keys, bytes = keys+1, bytes+len(k)+len(v)
		return true
	}); err != nil {
		a.t.Fatal(err)
	}
	return keys, bytes
}

// round looks once, commits what is found, and reports whether that was something.
func (a *alone) round(g *Gone, now time.Time, ttl time.Duration, stable bool) (some bool) {
	a.t.Helper()
	mark, expire, err := g.Look(a.Machine, ^uint64(0), now, ttl, func(s string) bool { return s != "u/theirs" },
		func(p uint8) (crdt.Vector, bool) { return a.Cursors(p), stable })
	if err != nil {
		a.t.Fatal(err)
	}
	for _, c := range []*Command{mark, expire} {
		if c != nil {
			some = true
			a.later(c, now)
		}
	}
	return some
}

// TestGone: what was removed is known for the time, and not before all regions have it is it forgotten; then nothing is left of it, and nothing is done
// any more.
func TestGone(t *testing.T) {
	const ttl = 30 * 24 * time.Hour
	a, now := newAlone(t), time.UnixMilli(1_700_000_000_000)
	for _, s := range []string{"u/ours", "u/theirs", "u/kept"} {
		a.say(s, 6, "echo")
		if s != "u/kept" {
			a.put(s, &crdt.Op{Kind: crdt.KindForget, OID: "f"})
		}
	}
	kept, _ := a.elements("u/kept")
	theirs, _ := a.elements("u/theirs")
	var g Gone
	for day := range 31 {
		if a.round(&g, now.Add(time.Duration(day)*24*time.Hour), ttl, day < 30) != (day == 0) {
			t.Fatalf("day %d: something was done", day)
		}
	}
	if keys, _ := a.elements("u/ours"); keys != theirs {
		t.Fatalf("of what was removed %d elements are left before the time, or without knowing what others have, of %d", keys, theirs)
	}
	now = now.Add(31 * 24 * time.Hour)
	if !a.round(&g, now, ttl, true) {
		t.Fatal("nothing is forgotten")
	}
	a.intact("u/ours")
	now = now.Add(time.Hour)
	a.round(&g, now, ttl, true) // the expiry itself is to be forgotten
	a.round(&g, now.Add(ttl), ttl, true)
	if keys, _ := a.elements("u/ours"); keys != 1 {
		t.Errorf("in the end %d elements are left, not the header alone", keys)
	}
	for range 3 {
		if now = now.Add(2 * ttl); a.round(&g, now, ttl, true) {
			t.Error("there is no end")
		}
	}
	if n, _ := a.elements("u/kept"); n != kept {
		t.Errorf("a session of which nothing was removed has %d elements, not %d", n, kept)
	}
	if n, _ := a.elements("u/theirs"); n != theirs {
		t.Errorf("another region's session has %d elements, not %d", n, theirs)
	}
	lo := []byte{spaceMark}
	_ = a.cfg.Store.Scan(lo, upper(lo), false, func(k, _ []byte) bool {
		t.Errorf("a mark is left: %q", k)
		return true
	})
	a.intact("u/ours")
}

// TestTrimmedForLong: a session that is trimmed all the time is as large after a year as after three months.
func TestTrimmedForLong(t *testing.T) {
	const ttl, day, s = 30 * 24 * time.Hour, 24 * time.Hour, "u/long"
	for _, forgets := range []bool{false, true} {
		a, now := newAlone(t), time.UnixMilli(1_700_000_000_000)
		var g Gone
		var first, firstBytes int
		for i := range 400 {
			now = now.Add(day)
			for n := range 8 {
				op := &crdt.Op{Kind: crdt.KindMsg, Session: s, OID: fmt.Sprintf("%04d-%d-abcdefghijklmnopq", i, n), Text: "hello", User: "u", Models: []string{"echo"}}
				a.later(&Command{Kind: KindPut, Session: s, Ops: []*crdt.Op{op}}, now)
				a.later(&Command{Kind: KindAnswer, Ops: []*crdt.Op{{Kind: crdt.KindDone, Session: s, Run: crdt.RunID(op.OID, "echo", "0"), State: crdt.RunFailed}}}, now)
			}
			a.later(&Command{Kind: KindTrim, Keep: 40, Ops: []*crdt.Op{{Kind: crdt.KindTrim, Session: s}}}, now)
			if forgets {
				a.round(&g, now, ttl, true)
			}
			if i == 90 {
				first, firstBytes = a.elements(s)
			}
		}
		keys, bytes := a.elements(s)
		t.Logf("forgets: %t: %d elements, %d bytes after 90 days; %d, %d after 400", forgets, first, firstBytes, keys, bytes)
		if grown := keys > first*6/5 || bytes > firstBytes*6/5; grown == forgets {
			t.Errorf("forgets: %t, grown: %t", forgets, grown)
		}
		a.intact(s)
	}
}

// TestLateOps: from the level on, what is put on a message that was removed has its ok, and no number.
func TestLateOps(t *testing.T) {
	a := newAlone(t)
	a.put("u/s", &crdt.Op{Kind: crdt.KindMsg, OID: "m", Text: "x", User: "u"})
	a.put("u/s", &crdt.Op{Kind: crdt.KindForget, OID: "f"})
	p := crdt.PartitionOf("u/s")
	put := func(oid string) *Command {
		return &Command{Kind: KindPut, Session: "u/s", Tag: 7, Ops: []*crdt.Op{{Kind: crdt.KindEdit, Session: "u/s", OID: oid, Of: "m", Text: "y", User: "u"}}}
	}
	before := a.Cursors(p)[a.Self().ID()]
	if a.do(put("e1")); a.Cursors(p)[a.Self().ID()] != before+1 {
		t.Error("before the level it is not as it was")
	}
	a.last = nil
	if a.later(put("e2"), time.UnixMilli(1_700_000_000_000)); a.Cursors(p)[a.Self().ID()] != before+1 {
		t.Error("it was numbered")
	}
	if len(a.last) != 1 || !a.last[0].Gone || len(a.last[0].Placed) != 1 || a.last[0].Placed[0].OID != "e2" || a.last[0].Placed[0].Dot.F != 1 {
		t.Errorf("its client hears %+v", a.last)
	}
}
