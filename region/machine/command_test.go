package machine

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/roamsync/roam/crdt"
)

func TestEntriesOfALaterLevelStopTheNode(t *testing.T) {
	b := EncodeEntry([][]byte{(&Command{Kind: KindPeer, Peer: "x"}).Encode()})
	if _, err := DecodeEntry(b); err != nil {
		t.Fatal(err)
	}
	b[0]++
	if _, err := DecodeEntry(b); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("got %v", err)
	}
}

// FuzzDecodeEntry: whatever a log holds, decoding ends with a command or an error.
func FuzzDecodeEntry(f *testing.F) {
	f.Add(EncodeEntry([][]byte{(&Command{Kind: KindPut, Session: "a/b", Ops: []*crdt.Op{{Kind: crdt.KindMsg, OID: "m", Text: "t"}}}).Encode()}))
	f.Add(binary.AppendUvarint(nil, FeatureLevel))
	f.Fuzz(func(t *testing.T, b []byte) {
		if cmds, err := DecodeEntry(b); err == nil && len(b) > 1 && cmds == nil {
			t.Error("neither commands nor an error")
		}
	})
}
