package gateway

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"testing"

	"github.com/roamsync/roam/crdt"
)

// BenchmarkToken makes and reads tokens of sessions that were written in some regions, each of which has committed a
// hundred thousand ops of the partition; token-B is what a client keeps.
func BenchmarkToken(b *testing.B) {
	tk := tokens{testKeys}
	for _, origins := range []int{1, 3, 8} {
		pos := position{seen: crdt.Vector{}, floor: crdt.Floor{Seq: 10_000, Stamp: 1 << 58}}
		for i := range origins {
			pos.seen[crdt.NewOrigin(fmt.Sprintf("region-%d", i), 1).ID()] = 100_000
		}
		cur := tk.mint(&pos, "alice", "alice/a")
		b.Run(fmt.Sprintf("mint/origins=%d", origins), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				cur = tk.mint(&pos, "alice", "alice/a")
			}
			b.ReportMetric(float64(len(cur)), "token-B")
		})
		b.Run(fmt.Sprintf("parse/origins=%d", origins), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tk.parse(cur, "alice", "alice/a"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(cur)), "token-B")
		})
	}
}

// TestGoldenToken pins the tokens that clients keep: a rolling upgrade must not make them strangers.
func TestGoldenToken(t *testing.T) {
	tk := tokens{testKeys}
	p := position{seen: crdt.Vector{1: 2, 3: 400}, shown: crdt.Vector{5: 6}, lent: crdt.Vector{5: 4}, floor: crdt.Floor{Seq: 7, Stamp: 1 << 58}}
	behind := tk.mint(&p, "alice", "alice/a")
	p.shown = nil
	if got := [2]string{tk.mint(&p, "alice", "alice/a"), behind}; got != goldenTokens {
		t.Errorf("tokens are %q", got)
	}
}

var goldenTokens = [2]string{
	"AT6xBwQAAAAAAAAAAQAAAAIDAAAAkAOhOS59xg0qXpa_D3K41zwC", "QT6xBwQAAAAAAAAACwEAAAACAwAAAJADBQUAAAAGBQAAAATte1WMKNvwOqap6OOXFj98",
}

// FuzzToken: a token that was not signed is no token; of those that are, whatever is read is written as it was read.
func FuzzToken(f *testing.F) {
	tk := tokens{testKeys}
	for _, p := range []position{
		{seen: crdt.Vector{}},
		{seen: crdt.Vector{1: 2, 3: 400}, floor: crdt.Floor{Seq: 7, Stamp: 1 << 58}},
		{seen: crdt.Vector{1: 2}, shown: crdt.Vector{3: 4}, floor: crdt.Floor{Seq: 1}},
	} {
		b, err := base64.RawURLEncoding.DecodeString(tk.mint(&p, "alice", "alice/a"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-macSize])
	}
	id := keyID(testKeys[0])
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := tk.parse(string(body), "alice", "alice/a"); err == nil {
			t.Fatal("no signature, and taken")
		}
		body = bytes.Clone(body)
		if len(body) > keyIDSize {
			copy(body[1:], id[:])
		}
		cur := base64.RawURLEncoding.EncodeToString(append(body, sign(testKeys[0], body, "alice", "alice/a")...))
		p, err := tk.parse(cur, "alice", "alice/a")
		if err != nil {
			return
		}
		back, err := tk.parse(tk.mint(&p, "alice", "alice/a"), "alice", "alice/a")
		if err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("%+v reads back as %+v, %v", p, back, err)
		}
		if _, err := tk.parse(cur, "bob", "alice/a"); err == nil {
			t.Fatal("it is alice's, and bob has it")
		}
	})
}
