package machine

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// watched is a machine and what it told.
type watched struct {
	*Machine
	store *Mem
	told  []wire.Event
}

func newWatched(t *rapid.T) *watched {
	w := &watched{store: NewMem()}
	var err error
	w.Machine, err = New(Config{Region: "a", Entry: "here", Store: w.store, Watch: func(evs []wire.Event) { w.told = append(w.told, evs...) }})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// anOp draws an op on a session, from few oids: many are retries, or other ops under an oid that is taken.
func anOp(t *rapid.T, session string) *crdt.Op {
	oid := func(label string) string { return fmt.Sprint("o", rapid.IntRange(0, 9).Draw(t, label)) }
	op := &crdt.Op{Session: session, OID: oid("oid"), User: "u", Text: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "text")}
	op.Kind = rapid.SampledFrom([]crdt.Kind{crdt.KindMsg, crdt.KindMsg, crdt.KindMsg, crdt.KindSet, crdt.KindEdit, crdt.KindDel,
		crdt.KindReact, crdt.KindForget}).Draw(t, "kind")
	switch op.Kind {
	case crdt.KindMsg:
		op.Models = rapid.SampledFrom([][]string{nil, {"m"}}).Draw(t, "models")
	case crdt.KindSet:
		op.Key, op.Value, op.Text = "k", []byte(`"v"`), ""
	case crdt.KindReact:
		op.Key, op.On = "+", true
		fallthrough
	case crdt.KindEdit, crdt.KindDel:
		op.Of = oid("of")
	}
	return op
}

// TestWhatIsRememberedChangesNothing: a machine that has room for next to nothing, so that what it remembers goes from one place to the next
// all the time, tells and writes what one does that remembers nothing from one entry to the next.
func TestWhatIsRememberedChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mind, none := newWatched(t), newWatched(t)
		mind.hot.sessions, mind.hot.cold.chunk, mind.hot.cold.bound = rapid.IntRange(1, 3).Draw(t, "hot"), 200, rapid.IntRange(0, 4).Draw(t, "cold")
		cmds, clock := []*Command{{Kind: KindRenew, Next: crdt.NewOrigin("a", 1)}}, crdt.Clock{}
		for index := range uint64(rapid.IntRange(10, 60).Draw(t, "entries")) {
			var entry [][]byte
			for _, c := range cmds {
				c.Stamp(&clock, time.UnixMilli(1_700_000_000_000))
				entry = append(entry, c.Encode())
			}
			if err := none.Load(); err != nil {
				t.Fatal(err)
			}
			for _, w := range []*watched{mind, none} {
				if _, err := w.Apply(index+1, EncodeEntry(entry), false); err != nil {
					t.Fatal(err)
				}
			}
			cmds = nil
			for range rapid.IntRange(1, 4).Draw(t, "commands") {
				session := fmt.Sprint("u/", rapid.IntRange(0, 9).Draw(t, "session"))
				cmds = append(cmds, &Command{Kind: KindPut, Session: session, Ops: []*crdt.Op{anOp(t, session)}, Tag: 1, Entry: "here"})
			}
		}
		if !reflect.DeepEqual(mind.told, none.told) {
			t.Fatalf("told %v, want %v", mind.told, none.told)
		}
		if got, want := scanned(mind.store, nil, []byte{0xff}, false, 1<<30), scanned(none.store, nil, []byte{0xff}, false, 1<<30); !slices.Equal(got, want) {
			t.Fatalf("holds %q, want %q", got, want)
		}
	})
}

// TestColdSessions: what is remembered comes back as it was, once, and memory stays within its bound.
func TestColdSessions(t *testing.T) {
	c := &cold{chunk: 256, bound: 4}
	for i := range 100 {
		k := &kept{header: fmt.Appendf(nil, "header %d", i), oids: &oids{}}
		for oid := range i % 5 {
			k.add(fmt.Append(nil, "i", oid))
		}
		c.put(fmt.Sprint("u/", i), k)
		if n := len(c.young.chunks) + len(c.old.chunks); n > 8 {
			t.Fatalf("%d chunks after %d sessions", n, i+1)
		}
	}
	known := 0
	for i := range 100 {
		name, k := fmt.Sprint("u/", i), &kept{}
		if !c.take(name, k) {
			continue
		}
		known++
		if want := fmt.Sprint("header ", i); string(k.header) != want || k.oids.n != i%5 {
			t.Errorf("%s comes back as %q with %d oids", name, k.header, k.oids.n)
		}
		for oid := range 9 {
			if k.lacks(fmt.Sprint(oid)) != (oid >= i%5) {
				t.Errorf("%s: oid %d", name, oid)
			}
		}
		if c.take(name, k) {
			t.Errorf("%s is still cold after it was taken", name)
		}
	}
	if known < 30 || known == 100 {
		t.Errorf("%d of 100 sessions are known: the last ones should be, and not all fit", known)
	}
	if c.take("u/never", &kept{}) {
		t.Error("a session that never was is known")
	}
}

// TestColdSessionsOfOneHash: two sessions whose names have one hash are not taken for one another.
func TestColdSessionsOfOneHash(t *testing.T) {
	c := &cold{chunk: 256, bound: 4}
	c.put("u/1", &kept{header: []byte("h")})
	for hash := range c.young.at {
		if k := (&kept{}); c.young.take(hash, "u/2", k, c.chunk) || k.header != nil {
			t.Errorf("u/2 is known, with the header %q", k.header)
		}
		if !c.young.take(hash, "u/1", &kept{}, c.chunk) {
			t.Error("u/1 is forgotten")
		}
	}
}

// TestOIDsAreASet: what was added is there, and little else.
func TestOIDsAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o oids
		want := map[uint32]bool{}
		for _, hash := range rapid.SliceOf(rapid.Uint32Range(1, 400)).Draw(t, "hashes") {
			o.add(hash)
			want[hash] = true
		}
		for hash := range uint32(402) {
			if hash > 0 && o.has(hash) != want[hash] {
				t.Fatalf("%d: %t", hash, o.has(hash))
			}
		}
		if o.n != len(want) {
			t.Fatalf("%d, want %d", o.n, len(want))
		}
	})
}
