package machine

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

func TestEntriesOfALaterLevelStopTheNode(t *testing.T) {
	b := EncodeEntry([][]byte{(&Command{Kind: KindPeer, Peer: "x"}).Encode()})
	if _, err := DecodeEntry(b, FeatureLevel); err != nil {
		t.Fatal(err)
	}
	b[0] = FeatureLevel + 1
	if _, err := DecodeEntry(b, FeatureLevel); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("got %v", err)
	}
}

// FuzzDecodeEntry: whatever a log holds, decoding ends with commands that read back, or an error.
func FuzzDecodeEntry(f *testing.F) {
	var all [][]byte
	for _, c := range commands() {
		all = append(all, c.Encode())
	}
	f.Add(EncodeEntry(all))
	f.Add(binary.AppendUvarint(nil, FeatureLevel))
	f.Fuzz(func(t *testing.T, b []byte) {
		cmds, err := DecodeEntry(b, FeatureLevel)
		if err != nil {
			return
		}
		var all [][]byte
		for _, c := range cmds {
			all = append(all, c.Encode())
		}
		if back, err := DecodeEntry(EncodeEntry(all), FeatureLevel); err != nil || len(back) != len(cmds) {
			t.Errorf("%d commands read back as %d, %v", len(cmds), len(back), err)
		}
	})
}

// TestGoldenCommands pins the format of Raft entries: logs that are stored have to read back, and nodes of two versions
// have to apply the same.
func TestGoldenCommands(t *testing.T) {
	for i, c := range commands() {
		if got := hex.EncodeToString(c.Encode()); got != goldenCommands[i] {
			t.Errorf("command of kind %d is %s", c.Kind, got)
		}
	}
}

var goldenCommands = []string{
	"08011203612f6218032009280732016582010d08011203612f621a016d520174",
	"08023a03312d3082010e080b1203612f62520174aa010172",
	"08034212612e30303030303030303030303030303031480350015a1001000000000000000000000000000000620f120d08011203612f621a016d520174",
	"08046a12612e303030303030303030303030303030317212612e30303030303030303030303030303032",
	"08057a0162",
	"080792010d0300000009000000000000012c",
	"08089a014708031203612f611a05070000000122280a12612e3030303030303030303030303030303110021a10000000000000000000000000000000002a0b0a03612f621201011a01023001a2010162",
	"0809a2010162a80103b00163",
	"0818d80280d095ffbc3182010f080e1203612f628a02050700000001",
	"0814c2021b03000000000000012c612e30303030303030303030303030303031c2021b000000000000000000622e30303030303030303030303030303031",
	"08157a0162c802ac02d00207",
	"0816",
	"0819820107080f1203612f62",
	"081ad80280d095ffbc3182010f080f1203612f629a02050700000001",
}

// FuzzDecodeCommand: what decodes encodes to what decodes to the same.
func FuzzDecodeCommand(f *testing.F) {
	for _, c := range commands() {
		f.Add(c.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		enc := c.Encode()
		if back, err := DecodeCommand(enc); err != nil || !bytes.Equal(back.Encode(), enc) {
			t.Fatalf("%x encodes to %x, which reads back as %+v, %v", b, enc, back, err)
		}
	})
}

// commands has one of each kind.
func commands() []*Command {
	op := &crdt.Op{Kind: crdt.KindMsg, Session: "a/b", OID: "m", Text: "t"}
	return []*Command{
		{Kind: KindPut, Session: "a/b", Floor: crdt.Floor{Seq: 3, Stamp: 9}, Tag: 7, Entry: "e", Ops: []*crdt.Op{op}},
		{Kind: KindAnswer, Position: "1-0", Ops: []*crdt.Op{{Kind: crdt.KindChunk, Session: "a/b", Run: "r", Text: "t"}}},
		{Kind: KindIngest, Records: wire.Records{
			Origin: crdt.NewOrigin("a", 1), Partition: 3, From: 1, Records: [][]byte{wire.Record{Op: op.Encode()}.Encode()}, Hash: wire.Hash{1},
		}},
		{Kind: KindRenew, Lost: crdt.NewOrigin("a", 1), Next: crdt.NewOrigin("a", 2)},
		{Kind: KindPeer, Peer: "b"},
		{Kind: KindFloor, Floors: []Floor{{Partition: 3, ID: 9, F: 300}}},
		{Kind: KindInstall, From: "b", Part: &peerpb.Part{
			Partition: 3, After: "a/a", Since: crdt.EncodeVector(crdt.Vector{7: 1}), Last: true,
			Vector:   []*peerpb.Mark{{Origin: string(crdt.NewOrigin("a", 1)), F: 2, Hash: make([]byte, 16)}},
			Sessions: []*peerpb.Session{{Name: "a/b", Keys: [][]byte{{1}}, Values: [][]byte{{2}}}},
		}},
		{Kind: KindMerge, From: "b", Into: 3, Bytes: 99},
		{Kind: KindPurge, Before: 1_700_000_000_000, Ops: []*crdt.Op{{Kind: crdt.KindPurge, Session: "a/b", Seen: crdt.Vector{7: 1}}}},
		{Kind: KindClose, Finals: []wire.Final{{Origin: crdt.NewOrigin("a", 1), Partition: 3, F: 300}, {Origin: crdt.NewOrigin("b", 1)}}},
		{Kind: KindEvict, Peer: "b", Eviction: crdt.Eviction{Bound: 300, Back: 7}},
		{Kind: KindBorn},
		{Kind: KindMark, Ops: []*crdt.Op{{Kind: crdt.KindExpire, Session: "a/b"}}},
		{Kind: KindExpire, Before: 1_700_000_000_000, Ops: []*crdt.Op{{Kind: crdt.KindExpire, Session: "a/b", Base: crdt.Vector{7: 1}}}},
	}
}
