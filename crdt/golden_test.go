package crdt

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// goldenLines compares with a file of lines.
func goldenLines(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name + ".txt"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s, line %d: what is stored would not read back, or feeds would have other hashes\ngot  %s\nwant %s",
				path, i+1, strings.Join(g[min(i, len(g)):min(i+1, len(g))], ""), strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
		}
	}
}

// script is a session in which every kind of op and every class of element occurs.
func script() *replica {
	o := NewOrigin("beijing", 0x0123456789abcdef)
	r := &replica{name: "beijing", origin: o, id: o.ID(), st: NewMem(), seen: Vector{}, now: time.UnixMilli(1_700_000_000_000)}
	for _, op := range []Op{
		{Kind: KindMsg, OID: "old", Role: "user", Text: "old", Models: []string{"echo"}}, {Kind: KindRead, OID: "q0", ReadSeq: 2},
		{Kind: KindForget, OID: "f1"}, {Kind: KindMsg, OID: "t1", Role: "user", Text: "t1"}, {Kind: KindMsg, OID: "t2", Role: "user", Text: "t2"},
	} {
		r.client(op)
	}
	r.trim(1)
	first, second := RunID("m1", "echo", "0"), RunID("m1", "echo", "r1")
	r.client(Op{Kind: KindMsg, OID: "m1", Role: "user", Text: "你好", Parts: []byte(`[{"type":"text"}]`), Ext: []byte(`{"a":1}`), Models: []string{"echo", ""}})
	r.worker(Op{Kind: KindBegin, Run: first, Model: "echo-1"})
	r.worker(Op{Kind: KindChunk, Run: first, Text: "hello "})
	r.worker(Op{Kind: KindChunk, Run: first, Off: 6, Text: "you"})
	r.worker(Op{Kind: KindChunk, Run: first, Off: 9})
	r.client(Op{Kind: KindRun, OID: "r1", Of: "m1", Model: "echo", Busy: BusyInterrupt})
	r.worker(Op{Kind: KindBegin, Run: second, Model: "echo-1"})
	r.worker(Op{Kind: KindChunk, Run: second, Text: "hi"})
	r.worker(Op{Kind: KindDone, Run: second, State: RunDone, Fin: "end", Usage: []byte(`{"out":1}`), Off: 2})
	r.client(Op{Kind: KindStop, OID: "s1", Run: first})
	r.client(Op{Kind: KindSet, OID: "k1", Key: "title", Value: []byte(`"x"`)})
	r.client(Op{Kind: KindSet, OID: "k2", Key: "title"})
	r.client(Op{Kind: KindEdit, OID: "e1", Of: "m1", Text: "再见"})
	r.client(Op{Kind: KindDel, OID: "d1", Of: "m0"})
	r.client(Op{Kind: KindReact, OID: "x1", Of: "m1", Key: "+1", On: true})
	r.client(Op{Kind: KindReact, OID: "x2", Of: "m1", Key: "+1"})
	r.client(Op{Kind: KindRead, OID: "q1", ReadSeq: 3})
	r.issue(&Op{Kind: KindPurge, Seen: Vector{r.id: 3}, Stamp: r.clock.Next(r.now, 0), TS: r.now.UnixMilli()}) // of what is gone
	r.issue(&Op{
		Kind: KindExpire, Seen: Vector{r.id: 3}, Gone: []string{"never"}, Base: Vector{r.id: 2}, Stamp: r.clock.Next(r.now, 0), TS: r.now.UnixMilli(),
	})
	return r
}

// TestGoldenOps pins the bytes of every kind of op, as feeds carry them and their hashes cover them.
func TestGoldenOps(t *testing.T) {
	var out strings.Builder
	seen := map[Kind]bool{}
	for _, rec := range script().feed {
		fmt.Fprintf(&out, "%s %x\n", rec.op.Kind, rec.op.Encode())
		seen[rec.op.Kind] = true
	}
	for kind, name := range kindNames {
		if !seen[kind] {
			t.Errorf("no %s is pinned: add one to script, and run with -update", name)
		}
	}
	goldenLines(t, "ops", out.String())
}

// TestGoldenElements pins every class of element, as regions keep them on disk and hand them over.
func TestGoldenElements(t *testing.T) {
	var out strings.Builder
	seen := ""
	everything(script().st, func(k, v []byte) {
		fmt.Fprintf(&out, "%q %x\n", k, v)
		seen += string(k[:1])
	})
	for _, class := range []byte{
		classHeader, classIdentity, classEntry, classSlot, classPiece, classText, classRegister, classDot, classOpen, classRead, classWritten,
		classExpiry,
	} {
		if !strings.Contains(seen, string(class)) {
			t.Errorf("no element of class %q is pinned", class)
		}
	}
	goldenLines(t, "elements", out.String())
}
