package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/roamsync/roam/crdt"
)

var update = flag.Bool("update", false, "write the golden frames anew")

func TestRecords(t *testing.T) {
	op := (&crdt.Op{Kind: crdt.KindMsg, Session: "a/b", OID: "m", Text: "x"}).Encode()
	for _, r := range []Record{{Op: op}, {Deps: crdt.Vector{1: 2, 3: 4}, Op: op}} {
		b := r.Encode()
		got, err := DecodeRecord(b)
		if err != nil || !bytes.Equal(got.Encode(), b) || !got.Deps.Covers(r.Deps) {
			t.Errorf("%+v: %+v, %v", r, got, err)
		}
		for n := range b {
			if _, err := DecodeRecord(b[:n]); err == nil {
				t.Errorf("%d of %d bytes were taken", n, len(b))
			}
		}
		if _, err := DecodeRecord(append(b, 0)); !errors.Is(err, ErrRecord) {
			t.Errorf("a byte too many: %v", err)
		}
	}
}

func TestFeedHash(t *testing.T) {
	a, b := FeedStart("a.0000000000000001", 1), FeedStart("a.0000000000000001", 2)
	if a == b || a.Next([]byte("x")) == b.Next([]byte("x")) {
		t.Error("feeds of two partitions have one hash")
	}
	if a.Next([]byte("x")).Next([]byte("y")) == a.Next([]byte("y")).Next([]byte("x")) {
		t.Error("the hash does not see the order")
	}
}

// TestGoldenRecord pins what feeds are made of: hashes of what is stored cover it.
func TestGoldenRecord(t *testing.T) {
	b := Record{Deps: crdt.Vector{1: 2, 3: 300}, Op: []byte("op")}.Encode()
	h := FeedStart("beijing.0000000000000001", 7)
	for what, got := range map[string]string{
		"record": hex.EncodeToString(b), "start": h.String(), "next": h.Next(b).String(),
	} {
		if want := goldenRecord[what]; got != want {
			t.Errorf("%s is %s, was %s: feeds that are stored would count as forked", what, got, want)
		}
	}
}

var goldenRecord = map[string]string{
	"record": "0a0b010000000203000000ac0212026f70",
	"start":  "cd2cdf663f0cf5cc885ada8cd2053b93",
	"next":   "38d5a85b2655ce90cde263deefe4de7c",
}

// FuzzDecodeRecord: whatever decodes encodes to the same bytes.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(Record{Deps: crdt.Vector{1: 2}, Op: []byte("op")}.Encode())
	f.Add([]byte{0x0a, 0, 0x12, 0})    // no dependencies, written out
	f.Add([]byte{0x12, 0x81, 0, 'x'})  // a length that is longer than it need be
	f.Add([]byte{0x92, 0x80, 0, 1, 1}) // a tag that is
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeRecord(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Errorf("%x encodes to %x", b, r.Encode())
		}
	})
}

// FuzzDecodeFrame: whatever a client sends ends as ops that are within bounds, or as an error for it.
func FuzzDecodeFrame(f *testing.F) {
	f.Add([]byte(`{"t":"put","id":1,"s":"a/b","ops":[{"k":"msg","oid":"m","text":"x","run":{"models":["echo"]}}]}`))
	f.Add([]byte(`{"t":"put","id":1,"s":"a/b","ops":[{"k":"set","oid":"m","key":"k","v":{"a":[1,2]}}]}`))
	f.Add([]byte(`{"t":"put","id":1,"s":"a/b","ops":[{"k":"react","oid":"m","of":"x","v":"+1","on":true},{"k":"read","oid":"r","seq":3},{"k":"forget","oid":"f"}]}`))
	f.Add([]byte(`{"t":"hello","id":1,"token":"x","open":[{"s":"a/b","tail":3}]}`))
	f.Add([]byte(`{"t":"put","id":1,"s":"a/b","ops":[{"k":"run","oid":"r","of":"m","busy":"interrupt"},{"k":"stop","oid":"s","run":"run-1"}]}`))
	f.Add([]byte(`{"t":"put","id":1,"s":"a/b","ops":[{"k":"edit","oid":"e","of":"m","text":"x"},{"k":"del","oid":"d","of":"m","ext":{"x":null}}]}`))
	f.Add([]byte(`{"t":"put","id":1,"s":"a/b","regions":1,"ops":[{"k":"msg","oid":"m","parts":[{"type":"t"}],"role":"system"},{"k":"set","oid":"n","key":"k","v":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := DecodeFrame(b)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Msg == "" {
				t.Fatalf("%v is not for a client", err)
			}
			return
		}
		ops, err := fr.Put("u", "d", true)
		if err != nil {
			return
		}
		for _, op := range ops {
			if len(op.Models) > MaxModels || len(op.Key) > MaxKey || len(op.Value) > MaxValue || !validOID(op.OID) || op.Session != fr.S {
				t.Fatalf("%+v is out of bounds", op)
			}
			if back, err := crdt.DecodeOp(op.Encode()); err != nil || back.ContentHash() != op.ContentHash() {
				t.Fatalf("%+v does not read back: %v", op, err)
			}
		}
	})
}

// TestGoldenFrames pins what clients see, byte for byte.
func TestGoldenFrames(t *testing.T) {
	text, behind, id := "hello", true, int64(7)
	at := crdt.Place{Seq: 3, At: "beijing.0000000000000001"}
	run := &crdt.Entry{OID: "run-1", Place: at, TS: 5, Run: &crdt.Run{
		Of: "q", Model: "echo", State: crdt.RunDone, Attempt: crdt.Attempt{Epoch: 1, Region: "beijing", N: 1}, Text: &text,
		Len: 5, Sum: crdt.SumOf(text), Fin: "end",
	}}
	msg := &crdt.Entry{OID: "q", Place: at, TS: 5, User: "alice", Device: "phone", Msg: &crdt.Message{Role: "user", Text: "<b>"}}
	set := &crdt.MapOp{Op: &crdt.Op{Kind: crdt.KindSet, OID: "k", Key: "title", User: "alice", TS: 5}, Version: crdt.Version{Stamp: 9, By: 1}}
	queued := &crdt.Entry{OID: "run-2", Place: at, Run: &crdt.Run{Of: "q"}}
	frames := []any{
		Welcome{T: "welcome", Regions: []RegionInfo{{Name: "beijing", URL: "ws://x", State: "up"}}},
		Snap{T: "snap", Map: map[string]MapValue{}, Read: map[string]uint64{}, Log: []any{EntryFrame(msg), EntryFrame(run)}, Why: "new"},
		Delta{T: "delta", ID: &id, Ops: []any{MapFrame(set), EntryFrame(queued)}, Behind: &behind},
		Tok{T: "tok", Run: "run-1", D: "x"},
		Ok{T: "ok", At: []At{{OID: "q", Seq: 3, At: at.At}}}, Safe{T: "safe", OIDs: []string{"q"}},
		PageFrame{T: "page", Log: []any{}}, ErrFrame{T: "err", Code: Busy, Msg: "m", Retry: 5}, Ping{T: "ping"},
	}
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	for _, f := range frames {
		if err := enc.Encode(f); err != nil {
			t.Fatal(err)
		}
	}
	const path = "testdata/frames.jsonl"
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("frames are\n%s\nwant\n%s", got.String(), want)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for err, code := range map[error]Code{
		crdt.ErrConflict: Conflict, crdt.ErrNotFound: NotFound, crdt.ErrBusy: Busy, crdt.ErrLimit: TooLarge,
		ErrUnavailable: Unavailable, errors.New("x"): Internal,
	} {
		if e := ErrorOf(err); e.Code != code || !strings.Contains(e.Msg, err.Error()) || (e.Retry > 0) != (code == Unavailable) {
			t.Errorf("%v: %+v", err, e)
		}
	}
}
