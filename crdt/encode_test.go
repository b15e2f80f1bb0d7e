package crdt

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden bytes anew: only for an encoding that nobody has stored yet")

// full is an op with every field set, so that the golden bytes pin every field's number and type.
func full() *Op {
	return &Op{
		Kind: KindMsg, Session: "alice/trip", OID: "01J", Seq: 7, Stamp: 1_700_000_000_000<<16 | 3, TS: 1_699_999_999_990,
		User: "alice", Device: "phone", Role: "user", Text: "你好", Parts: []byte(`[{"type":"text"}]`), Ext: []byte(`{"a":1}`),
		Key: "title", Value: []byte(`"x"`), Of: "01H", Models: []string{"", "echo"}, Busy: BusyReject, On: true, ReadSeq: 5,
		Runs: []string{"run-1"}, Run: "run-2", Attempt: Attempt{1, "beijing", 2}, Off: 9, Nonce: "n", Model: "m",
		State: RunFailed, Len: 11, Sum: "00ff", Fin: "error", Usage: []byte(`{}`), Err: "no",
		Seen:    Vector{7: 1, 9: 2},
		Gone:    []string{"01G"},
		Base:    Vector{7: 1},
		Trace:   &Trace{ID: [16]byte{1, 15: 16}, Span: [8]byte{17, 7: 24}, Flags: 1},
		Unknown: []byte{0xa2, 0x06, 1, 'z'},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name + ".hex"
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != strings.TrimSpace(string(want)) {
		t.Errorf("%s is %x: stored sessions would not read back", name, got)
	}
}

func TestGoldenBytes(t *testing.T) {
	op := full()
	golden(t, "op-traced", op.Encode())
	untraced := *op
	untraced.Trace = nil
	golden(t, "op", untraced.Encode())
	golden(t, "vector", EncodeVector(Vector{7: 1, 0xfffffffe: 300}))
	hash := op.ContentHash()
	golden(t, "content-hash", hash[:])
	st := NewMem()
	op.Unknown = nil
	o := NewOrigin("beijing", 0x0123456789abcdef)
	Apply(st, op, Dot{Origin: o, ID: o.ID(), F: 1})
	golden(t, "session", Encode(st))
	if got := o.ID(); got != 0xaa62dc50 {
		t.Errorf("origin id of %s is %08x", o, uint32(got))
	}
	if got := PartitionOf("alice/trip"); got != 21 {
		t.Errorf("partition of alice/trip is %d", got)
	}
	if got := RunID("01J", "echo", "0"); got != "run-f0bfe22b0359051ff197e574" {
		t.Errorf("run id is %s", got)
	}
}

func TestOpRoundTrip(t *testing.T) {
	op := full()
	got, err := DecodeOp(op.Encode())
	if err != nil || !reflect.DeepEqual(op, got) {
		t.Fatalf("got %+v, %v", got, err)
	}
	v := reflect.ValueOf(*op)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the golden op leaves %s at zero", v.Type().Field(i).Name)
		}
	}
}

// FuzzDecodeOp: whatever decodes is canonical, so it encodes to the same bytes.
func FuzzDecodeOp(f *testing.F) {
	f.Add(full().Encode())
	for _, rec := range script().feed {
		f.Add(rec.op.Encode())
	}
	f.Add((&Op{Kind: KindChunk, Session: "a/b", Run: "r", Attempt: Attempt{1, "a", 1}, Text: "t"}).Encode())
	f.Add([]byte{0x08, 0x80, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		op, err := DecodeOp(b)
		if err == nil && !bytes.Equal(op.Encode(), b) {
			t.Fatalf("%x encodes to %x", b, op.Encode())
		}
	})
}

// FuzzDecodeVector: as FuzzDecodeOp, for vectors.
func FuzzDecodeVector(f *testing.F) {
	f.Add(EncodeVector(Vector{1: 2, 3: 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeVector(b)
		if err == nil && !bytes.Equal(EncodeVector(v), b) {
			t.Fatalf("%x encodes to %x", b, EncodeVector(v))
		}
	})
}

func drawAttempt(t *rapid.T, name string) Attempt {
	return Attempt{
		Epoch:  rapid.Uint32Range(1, 3).Draw(t, name+" epoch"),
		Region: rapid.SampledFrom([]string{"a", "a-b", "a0", "ab", "b"}).Draw(t, name+" region"),
		N:      rapid.Uint32Range(1, 3).Draw(t, name+" n"),
	}
}

// TestAttemptOrderIsThatOfStrings: clients compare `ep` byte by byte.
func TestAttemptOrderIsThatOfStrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawAttempt(t, "a"), drawAttempt(t, "b")
		if a.Compare(b) != strings.Compare(a.String(), b.String()) {
			t.Fatalf("%q against %q: %d", a, b, a.Compare(b))
		}
		if (Attempt{}).Compare(a) >= 0 || a.Compare(Attempt{}) <= 0 {
			t.Fatalf("no attempt is not below %q", a)
		}
	})
}

func TestVersionOrderIsThatOfStrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n string) Version {
			return Version{Stamp(rapid.Uint64Range(0, 3<<62).Draw(t, n)), OriginID(rapid.Uint32Range(0, 3).Draw(t, n+" by"))}
		}
		a, b := draw("a"), draw("b")
		if a.Less(b) != (a.String() < b.String()) {
			t.Fatalf("%v against %v", a, b)
		}
	})
}

// TestStampsGrow: whatever the wall clock and the stamps that come in do.
func TestStampsGrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Clock
		var last Stamp
		for range rapid.IntRange(1, 50).Draw(t, "n") {
			now := time.UnixMilli(1_700_000_000_000 + rapid.Int64Range(-90_000, 90_000).Draw(t, "skew"))
			floor := Stamp(rapid.Uint64Range(0, uint64(maxStamp)-1).Draw(t, "floor"))
			if rapid.IntRange(0, 9).Draw(t, "bounded") > 0 {
				floor = 0
			}
			s := c.Next(now, floor)
			if s <= last || s <= floor || s < StampAt(now) {
				t.Fatalf("%d after %d, floor %d, now %d", s, last, floor, StampAt(now))
			}
			last = s
		}
	})
}

func TestParseOrigin(t *testing.T) {
	for _, s := range []string{"", "beijing", "beijing.12", "Beijing.0123456789abcdef", "a.0123456789abcdeg", "a.b.0123456789abcdef"} {
		if _, err := ParseOrigin(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	if o, err := ParseOrigin("bei-jing2.0123456789abcdef"); err != nil || o.Region() != "bei-jing2" {
		t.Errorf("got %q, %v", o, err)
	}
}
