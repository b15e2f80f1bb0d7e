package machine

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
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
		mind.hot.sessions, mind.hot.cold.chunk, mind.hot.cold.bound = rapid.IntRange(1, 3).Draw(t, "hot"), 600, rapid.IntRange(0, 2).Draw(t, "cold")
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

// TestColdSessions: what is remembered comes back as it was, once, the rest is forgotten, and memory stays within its bound.
func TestColdSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, want := newCold(0), map[string]*kept{}
		c.chunk, c.bound = 400, rapid.IntRange(1, 4).Draw(t, "chunks")
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			name := fmt.Sprint("u/", rapid.IntRange(0, 30).Draw(t, "session"))
			got := &kept{}
			if known := c.take(name, got); known && (want[name] == nil || !reflect.DeepEqual(got, want[name])) {
				t.Fatalf("%s comes back as %v, want %v", name, got, want[name])
			}
			if c.take(name, &kept{}) {
				t.Fatalf("%s is still cold after it was taken", name)
			}
			if delete(want, name); rapid.Bool().Draw(t, "back") {
				k := &kept{header: fmt.Appendf(nil, "h%d", i), oids: &oids{}}
				k.oids.reserve(0)
				for oid := range rapid.IntRange(0, 9).Draw(t, "oids") {
					k.add(fmt.Append(nil, "i", oid))
				}
				c.put(name, k)
				want[name] = k
			}
			checkCold(t, c)
		}
		if len(want) > 0 && len(c.at) == 0 {
			t.Fatal("all is forgotten")
		}
	})
}

// checkCold: what counts is counted, and fits.
func checkCold(t *rapid.T, c *cold) {
	live, all := 0, 0
	for _, at := range c.at {
		live += coldSize(c.chunks[int(at)/c.chunk][int(at)%c.chunk:])
	}
	for _, b := range c.chunks {
		all += cap(b)
	}
	if live != c.live || len(c.chunks) > c.bound || all > c.bound*c.chunk {
		t.Fatalf("%d bytes count, %d are counted; %d chunks of %d bytes in all", live, c.live, len(c.chunks), all)
	}
}

// TestColdSessionsThatFitStay: as long as there is room for all, none is forgotten, however often they go and come.
func TestColdSessionsThatFitStay(t *testing.T) {
	c := newCold(2 << 20)
	const sessions = 30_000
	for round := range 8 {
		for i := range sessions {
			name, k := fmt.Sprint("u/", i), &kept{}
			if known := c.take(name, k); known != (round > 0) {
				t.Fatalf("round %d: %s is known: %t", round, name, known)
			}
			c.put(name, &kept{header: fmt.Appendf(nil, "some header of a session %d", round)})
		}
	}
}

// TestColdSessionsOfOneHash: two sessions whose names have one hash are not taken for one another.
func TestColdSessionsOfOneHash(t *testing.T) {
	c := newCold(1 << 20)
	c.put("u/1", &kept{header: []byte("h")})
	hash := xxhash.Sum64String("u/1")
	c.at[xxhash.Sum64String("u/2")] = c.at[hash]
	if k := (&kept{}); c.take("u/2", k) || k.header != nil {
		t.Errorf("u/2 is known, with the header %q", k.header)
	}
	if !c.take("u/1", &kept{}) {
		t.Error("u/1 is forgotten")
	}
}

// TestOIDsAreASet: what was added is there, and little else.
func TestOIDsAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o oids
		want := map[uint16]bool{}
		for _, hash := range rapid.SliceOf(rapid.Uint16Range(1, 400)).Draw(t, "hashes") {
			o.add(hash)
			want[hash] = true
		}
		for hash := range uint16(402) {
			if hash > 0 && o.has(hash) != want[hash] {
				t.Fatalf("%d: %t", hash, o.has(hash))
			}
		}
		if o.n != len(want) {
			t.Fatalf("%d, want %d", o.n, len(want))
		}
	})
}

// TestHeaderAtHand: it is the one that was written last; of one that was deleted, or is too large, nothing is at hand.
func TestHeaderAtHand(t *testing.T) {
	k, at := &kept{prefix: []byte("p")}, []byte("ph")
	for _, want := range []string{"first", "second", "", "third"} {
		st := &sessionStore{write: newLayer(NewMem(), nil, &arena{})}
		if st.write.Own(at, []byte(want)); want == "" {
			st.write.Delete(at)
		}
		k.keep(st)
		if string(k.header) != want || (k.header == nil) != (want == "") {
			t.Errorf("the header is %q, want %q", k.header, want)
		}
	}
	st := &sessionStore{write: newLayer(NewMem(), nil, &arena{})}
	st.write.Own(at, make([]byte, hotBytes+1))
	if k.keep(st); k.header != nil {
		t.Errorf("a header of %d bytes is at hand", len(k.header))
	}
}
