package machine

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// alone is a machine with a log of its own.
type alone struct {
	*Machine
	t     *testing.T
	index uint64
	clock crdt.Clock
	last  []wire.Event
}

func newAlone(t *testing.T) *alone {
	a := &alone{t: t}
	m, err := New(Config{Region: "a", Store: NewMem(), Watch: func(ev []wire.Event) { a.last = append(a.last, ev...) }})
	if err != nil {
		t.Fatal(err)
	}
	a.Machine = m
	a.do(&Command{Kind: KindRenew, Next: crdt.NewOrigin("a", 1)})
	return a
}

func (a *alone) do(c *Command) Result {
	a.t.Helper()
	c.Stamp(&a.clock, time.UnixMilli(1_700_000_000_000))
	a.index++
	res, err := a.Apply(a.index, EncodeEntry([][]byte{c.Encode()}), false)
	if err != nil {
		a.t.Fatal(err)
	}
	return res[0]
}

func (a *alone) put(session string, op *crdt.Op) {
	op.Session = session
	a.do(&Command{Kind: KindPut, Session: session, Ops: []*crdt.Op{op}})
}

func (a *alone) say(session string, n int, models ...string) {
	for range n {
		a.put(session, &crdt.Op{Kind: crdt.KindMsg, OID: fmt.Sprintf("m%d", a.index), Text: "x", User: "u", Models: models})
	}
}

func (a *alone) length(session string) (n int) {
	a.t.Helper()
	if err := a.View(session, func(st crdt.Store) {
		log, _ := crdt.Page(st, 0, 1000)
		n = len(log)
	}); err != nil {
		a.t.Fatal(err)
	}
	return n
}

// intact checks what is kept in step with the sessions.
func (a *alone) intact(session string) {
	a.t.Helper()
	p := crdt.PartitionOf(session)
	kept, err := a.Digest(p)
	sum, err2 := a.Recompute(p)
	if err != nil || err2 != nil || kept != sum {
		a.t.Errorf("the digest is %x, and what is held sums to %x (%v, %v)", kept, sum, err, err2)
	}
}

func TestForgetEndsOpenAnswers(t *testing.T) {
	a := newAlone(t)
	a.say("u/s", 1, "echo")
	a.say("u/other", 1, "echo")
	a.put("u/s", &crdt.Op{Kind: crdt.KindForget, OID: "f"})
	if open, _, err := a.Open(); err != nil || len(open) != 1 || open[0].Session != "u/other" {
		t.Errorf("open are %v, %v", open, err)
	}
	a.intact("u/s")
	held := a.do(&Command{Kind: KindAnswer, Ops: []*crdt.Op{{Kind: crdt.KindBegin, Session: "u/s", Run: crdt.RunID("m1", "echo", "0"), Nonce: "w"}}})
	if len(held.Held) != 1 || held.Held[0].Verdict != crdt.Unknown {
		t.Errorf("a begin of an answer that is gone: %v", held.Held)
	}
}

// TestGrowth: a session is looked at when it is first seen and each time it has grown by a quarter, and trimmed when it is too long.
func TestGrowth(t *testing.T) {
	a, g := newAlone(t), NewGrowth(8)
	looks := 0
	trim := func() {
		t.Helper()
		g.Note(a.last)
		a.last = nil
		c, err := g.Trim(func(session string, read func(crdt.Store)) error {
			looks++
			return a.View(session, read)
		})
		if err != nil {
			t.Fatal(err)
		}
		if c != nil {
			back, err := DecodeCommand(c.Encode())
			if err != nil {
				t.Fatal(err)
			}
			a.do(back)
			a.do(c) // once too often changes nothing
		}
	}
	for _, step := range []struct{ say, looks, left int }{{1, 1, 1}, {2, 1, 3}, {1, 2, 4}, {3, 3, 7}, {3, 4, 10}, {1, 4, 11}, {2, 5, 8}, {0, 5, 8}} {
		a.say("u/s", step.say)
		trim()
		if got := a.length("u/s"); got != step.left || looks != step.looks {
			t.Errorf("%+v: %d entries left after %d looks", step, got, looks)
		}
	}
	a.intact("u/s")
	g.Note([]wire.Event{{Reset: true}})
	a.say("u/s", 1)
	if trim(); looks != 6 {
		t.Errorf("after the state was replaced there were %d looks", looks)
	}
	none := NewGrowth(0)
	none.Note(a.last)
	if c, err := none.Trim(a.View); c != nil || err != nil {
		t.Errorf("without a limit: %v, %v", c, err)
	}
}
