package machine

import (
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// TestStampsGrowInTheOrderOfTheLog: whatever stamps an entry brings, an op's is above all that was applied before it.
func TestStampsGrowInTheOrderOfTheLog(t *testing.T) {
	var stamps []crdt.Stamp
	m, err := New(Config{Region: "beijing", Entry: "e", Store: NewMem(), Watch: func(events []wire.Event) {
		for _, e := range events {
			for _, ch := range e.Changes {
				stamps = append(stamps, ch.Op.Stamp)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	put := func(oid string, stamp crdt.Stamp) []byte {
		op := &crdt.Op{Kind: crdt.KindMsg, Session: "u/s", OID: oid, Text: oid, Stamp: stamp}
		return (&Command{Kind: KindPut, Session: "u/s", Ops: []*crdt.Op{op}}).Encode()
	}
	renew := (&Command{Kind: KindRenew, Next: crdt.NewOrigin("beijing", 1)}).Encode()
	if _, err := m.Apply(1, EncodeEntry([][]byte{renew, put("a", 90), put("b", 40), put("c", 91)}), false); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(2, EncodeEntry([][]byte{put("d", 41)}), false); err != nil {
		t.Fatal(err)
	}
	if len(stamps) != 4 {
		t.Fatalf("%d ops were applied", len(stamps))
	}
	for i := 1; i < len(stamps); i++ {
		if stamps[i] <= stamps[i-1] {
			t.Errorf("op %d has the stamp %d after %d", i, stamps[i], stamps[i-1])
		}
	}
}

// TestReadMarkByLevel: what a client has seen elsewhere it may have read, but not by what a region applied before that was so.
func TestReadMarkByLevel(t *testing.T) {
	for level, want := range map[uint32]uint64{ExpireLevel - 1: 1, ExpireLevel: 4} {
		a := newAlone(t)
		a.say("u/x", 1)
		c := &Command{Kind: KindPut, Session: "u/x", Floor: crdt.Floor{Seq: 4}, Ops: []*crdt.Op{{Kind: crdt.KindRead, OID: "q", Session: "u/x", User: "u", ReadSeq: 9}}}
		c.Stamp(&a.clock, time.UnixMilli(1_700_000_000_000))
		a.index++
		if _, err := a.Apply(a.index, EncodeEntryOf(level, [][]byte{c.Encode()}), false); err != nil {
			t.Fatal(err)
		}
		var got uint64
		if err := a.View("u/x", func(st crdt.Store) { got = crdt.Read(st)["u"] }); err != nil || got != want {
			t.Errorf("level %d: it is read up to %d, want %d (%v)", level, got, want, err)
		}
	}
}
