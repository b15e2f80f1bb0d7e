package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/wire"
)

func (w *world) submit(region string, op *crdt.Op) {
	w.t.Helper()
	err := w.nodes[region].region.Submit(&wire.Put{Session: op.Session, Ops: []*crdt.Op{op}, Fail: func(err error) { w.t.Error(err) }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.until(op.OID+" is in "+region, func() (found bool) {
		err := w.nodes[region].region.View(op.Session, func(st crdt.Store) { _, found = crdt.Lookup(st, op.OID) })
		if err != nil {
			w.t.Fatal(err)
		}
		return found
	})
}

func export(t *testing.T, n *node, user string) (lines []exportLine) {
	t.Helper()
	var out bytes.Buffer
	if err := Export(t.Context(), ExportOptions{Admin: n.opts.AdminAddr, User: user}, &out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		var l exportLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, l)
	}
	return lines
}

// written is two regions in which alice has two sessions, and others have some.
func written(t *testing.T) *world {
	w := newWorld(t, "beijing", "shanghai")
	w.put("beijing", "m1")
	w.put("beijing", "m2")
	for _, op := range []*crdt.Op{
		{Kind: crdt.KindSet, Session: session, OID: "s", User: "alice", Key: "title", Value: json.RawMessage(`"sights"`)},
		{Kind: crdt.KindRead, Session: session, OID: "r", User: "alice", ReadSeq: 2},
		{Kind: crdt.KindMsg, Session: "alice/other", OID: "o", User: "alice", Role: "user", Text: "o"},
		{Kind: crdt.KindMsg, Session: "alicea/trip", OID: "x", User: "alicea", Role: "user", Text: "x"},
		{Kind: crdt.KindMsg, Session: "bob/trip", OID: "y", User: "bob", Role: "user", Text: "y"},
	} {
		w.submit("beijing", op)
	}
	return w
}

// TestExport: an export holds all of a user's sessions, and nothing of others.
func TestExport(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := written(t)
	kinds := map[string]int{}
	for _, l := range export(t, w.nodes["beijing"], "alice") {
		kinds[l.T]++
		if l.S != "" && !strings.HasPrefix(l.S, "alice/") {
			t.Errorf("it holds %+v", l)
		}
		if e, ok := l.Entry.(map[string]any); ok && (e["k"] != "msg" || e["text"] != e["oid"]) {
			t.Errorf("an entry is %v", e)
		}
		if l.T == "map" && (l.Key != "title" || string(l.Value.V) != `"sights"`) {
			t.Errorf("a value is %+v", l)
		}
	}
	if kinds["export"] != 1 || kinds["session"] != 2 || kinds["entry"] != 3 || kinds["map"] != 1 || kinds["read"] != 1 || kinds["end"] != 1 {
		t.Errorf("lines: %v", kinds)
	}
}

// TestErase: an erasure takes a user's sessions from all regions, and says which have not got that yet.
func TestErase(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := written(t)
	var out strings.Builder
	o := EraseOptions{Admin: w.nodes["beijing"].opts.AdminAddr, User: "alice", Wait: time.Minute}
	if err := Erase(t.Context(), o, &out); err != nil || !strings.Contains(out.String(), "2 sessions of alice hold something. Nothing was deleted") {
		t.Fatal(err, out.String())
	}
	w.equal()
	o.Yes = true
	out.Reset()
	if err := Erase(t.Context(), o, &out); err != nil {
		t.Fatal(err, out.String())
	}
	for _, says := range []string{"deleted 2 sessions", "region shanghai has deleted them too", "Backups made before", "no date"} {
		if !strings.Contains(out.String(), says) {
			t.Errorf("it does not say %q: %s", says, out.String())
		}
	}
	for name, n := range w.nodes {
		for _, l := range export(t, n, "alice") {
			if l.T == "entry" || l.T == "map" || l.T == "read" {
				t.Errorf("%s still shows %+v", name, l)
			}
		}
		if got := len(export(t, n, "bob")); got != 4 {
			t.Errorf("%s: %d lines of bob's", name, got)
		}
	}

	w.net.CutBoth("beijing", "shanghai", memnet.Break)
	w.put("beijing", "m3")
	w.put("shanghai", "m4")
	out.Reset()
	o.Wait = 0
	if err := Erase(t.Context(), o, &out); !errors.Is(err, errNotYet) || !strings.Contains(out.String(), "region shanghai: 1 of them are not known") {
		t.Error(err, out.String())
	}
	w.net.CutBoth("beijing", "shanghai", memnet.Open)
	w.until("m4 is in beijing", func() bool { return w.has("beijing", "m4") })
	out.Reset()
	o.Wait = time.Minute
	if err := Erase(t.Context(), o, &out); err != nil {
		t.Error(err, out.String())
	}
	w.equal()
}

func TestEraseOptions(t *testing.T) {
	for flag, o := range map[string]EraseOptions{
		"--user":  {Admin: "127.0.0.1:1", User: "a/b"},
		"--wait":  {Admin: "127.0.0.1:1", User: "a", Wait: -1},
		"--admin": {Admin: "nowhere", User: "a"},
	} {
		if err := Erase(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if err := Export(t.Context(), ExportOptions{Admin: "127.0.0.1:1", User: ""}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--user") {
		t.Error(err)
	}
	if err := Recover(t.Context(), RecoverOptions{Data: t.TempDir(), Region: "beijing", Node: "n1"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Error(err)
	}
}
