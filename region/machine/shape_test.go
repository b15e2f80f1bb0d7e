package machine

import (
	"maps"
	"strings"
	"testing"

	"github.com/roamsync/roam/crdt"
)

// TestShape: what is wanted of the nodes is kept in the state; a level does not go down, and who has left does not come back.
func TestShape(t *testing.T) {
	store := NewMem()
	m, err := New(Config{Region: "beijing", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if m.Size() != 0 || m.Level() != 1 {
		t.Errorf("it begins with size %d, level %d", m.Size(), m.Level())
	}
	for i, s := range []Shape{
		{Level: 2}, {Size: 3}, {Level: 1, Size: 5}, {Out: "a", As: OutReplaced}, {Out: "b", As: OutLeft}, {Out: "c", As: OutReplaced},
		{Out: "a"}, {Out: "b"}, {Out: "c", As: OutLeft}, {Out: "c", As: OutReplaced}, {Out: "d", As: OutReplaced},
	} {
		c := &Command{Kind: KindShape, Shape: s}
		if c.Level() != 2 || c.Raises() != (s.Level > 0) {
			t.Errorf("%+v: level %d, raises %v", s, c.Level(), c.Raises())
		}
		if _, err := m.Apply(uint64(i+1), EncodeEntryOf(c.Level(), [][]byte{c.Encode()}), false); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]Out{"b": OutLeft, "c": OutLeft, "d": OutReplaced}
	for range 2 {
		outs, err := m.Outs()
		if m.Size() != 5 || m.Level() != 2 || err != nil || !maps.Equal(outs, want) {
			t.Errorf("size %d, level %d, %v, %v", m.Size(), m.Level(), outs, err)
		}
		if m, err = New(Config{Region: "beijing", Store: store}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := New(Config{Region: "beijing", Store: store, Level: 1}); err == nil || !strings.Contains(err.Error(), "feature level 2") {
		t.Errorf("opened by a version that applies level 1: %v", err)
	}
}

// TestLowLevelStops: a version that applies the first level stops at the first entry of a region at the second, whatever is in it.
func TestLowLevelStops(t *testing.T) {
	m, err := New(Config{Region: "beijing", Store: NewMem(), Level: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := (&Command{Kind: KindPeer, Peer: "x"}).Encode()
	if _, err := m.Apply(1, EncodeEntryOf(1, [][]byte{c}), false); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(2, EncodeEntryOf(2, [][]byte{c}), false); err == nil || m.Applied() != 1 {
		t.Errorf("applied %d: %v", m.Applied(), err)
	}
}

// TestLevelsOfCommands: what older versions would apply otherwise, or not at all, waits until all nodes can.
func TestLevelsOfCommands(t *testing.T) {
	report := func(nonce string) *Command {
		return &Command{Kind: KindAnswer, Ops: []*crdt.Op{{Kind: crdt.KindBegin, Run: "r", Nonce: nonce}}}
	}
	for want, all := range map[uint32][]*Command{
		firstLevel: {{Kind: KindPut}, report("w"), {Kind: KindTrim}}, FloorLevel: {{Kind: KindFloor}, {Kind: KindMerge}},
		takeoverLevel: {report(""), {Kind: KindPurge}}, ExpireLevel: {{Kind: KindMark}, {Kind: KindExpire}},
	} {
		for _, c := range all {
			if got := c.Level(); got != want {
				t.Errorf("command %d: level %d, not %d", c.Kind, got, want)
			}
		}
	}
}
