package backup

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/wire/peerpb"
)

var header = Header{
	Region: "beijing", Node: "n1", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Level: 1, Applied: []uint64{7, 8},
}

var parts = []*peerpb.StatePart{
	{Applied: 7, Keys: [][]byte{[]byte("a"), []byte("b")}, Values: [][]byte{[]byte("1"), bytes.Repeat([]byte("2"), 100_000)}},
	{Applied: 7, Last: true, Count: 2, Sum: []byte("sum")},
	{Applied: 8, Last: true},
}

func write(t testing.TB, h Header, parts []*peerpb.StatePart) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if err := w.Part(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read returns what is in a file; its error is io.EOF if that is all.
func read(r io.Reader) (h Header, all []*peerpb.StatePart, err error) {
	file, err := NewReader(r)
	if err != nil {
		return h, nil, err
	}
	defer file.Close()
	for {
		p, err := file.Next()
		if err != nil {
			return file.Header, all, err
		}
		all = append(all, p)
	}
}

func TestReadsWhatWasWritten(t *testing.T) {
	file := write(t, header, parts)
	for name, r := range map[string]io.Reader{
		"at once": bytes.NewReader(file), "byte by byte": iotest.OneByteReader(bytes.NewReader(file)), "with its end": iotest.DataErrReader(bytes.NewReader(file)),
	} {
		h, got, err := read(r)
		if !errors.Is(err, io.EOF) || h.Region != "beijing" || !h.Time.Equal(header.Time) || len(h.Applied) != 2 || len(got) != len(parts) {
			t.Fatalf("%s: %+v, %d parts, %v", name, h, len(got), err)
		}
		for i := range got {
			if !proto.Equal(got[i], parts[i]) {
				t.Errorf("%s: part %d differs", name, i)
			}
		}
	}
	if lines := strings.SplitN(string(file), "\n", 3); lines[0] != "roam backup 1" || !strings.Contains(lines[1], `"region":"beijing"`) {
		t.Errorf("it begins with %q", lines[:2])
	}
}

// TestNothingElseReads: a file is refused if a byte of it is missing, other than it was, or too many.
func TestNothingElseReads(t *testing.T) {
	file := write(t, header, parts)
	refused := func(what string, i int, b []byte) {
		if _, _, err := read(bytes.NewReader(b)); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
			t.Errorf("%s %d of %d: %v", what, i, len(file), err)
		}
	}
	for i := range file {
		refused("cut at", i, file[:i])
		for bit := range 8 {
			b := bytes.Clone(file)
			b[i] ^= 1 << bit
			refused("flipped", i, b)
		}
	}
	refused("more than", len(file), append(file[:len(file):len(file)], 0))
	refused("twice", 2*len(file), append(file[:len(file):len(file)], file...))
}

func TestGroupsAreCounted(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, header)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Part(parts[0]), w.Part(parts[1])); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("a backup that lacks a group was closed")
	}
	if _, _, err := read(bytes.NewReader(b.Bytes())); !errors.Is(err, ErrDamaged) {
		t.Errorf("it reads: %v", err)
	}
	short := header
	short.Applied = short.Applied[:1]
	b.Reset()
	if w, err = NewWriter(&b, short); err != nil {
		t.Fatal(err)
	}
	w.left = 2 // a writer that does not count
	if err := errors.Join(w.Part(parts[1]), w.Part(parts[2]), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(bytes.NewReader(b.Bytes())); !errors.Is(err, ErrDamaged) {
		t.Errorf("a group more than it says: %v", err)
	}
}

// FuzzRead: whatever is in a file, it is read or refused, and only what a writer has closed is read to its end.
func FuzzRead(f *testing.F) {
	file := write(f, header, parts)
	f.Add(file)
	f.Add(file[:len(file)-32])
	f.Add([]byte("roam backup 1\n{\"region\":\"b\",\"node\":\"n\",\"applied\":[1]}\n"))
	f.Add([]byte("roam backup 2\n{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, got, err := read(bytes.NewReader(b))
		if !errors.Is(err, io.EOF) || errors.Is(err, ErrDamaged) {
			return
		}
		last := 0
		for _, p := range got {
			if p.Last {
				last++
			}
		}
		if last != len(h.Applied) {
			t.Errorf("%d groups of %d end", last, len(h.Applied))
		}
	})
}
