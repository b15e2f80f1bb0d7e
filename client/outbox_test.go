package client

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func oidsOf(t *testing.T, o Outbox) (oids []string) {
	t.Helper()
	items, err := o.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		oids = append(oids, it.Session+":"+it.OID)
	}
	return oids
}

func addItems(t *testing.T, o Outbox, n int) {
	t.Helper()
	for i := range n {
		it := Item{Session: "a/s", OID: fmt.Sprint(i), Born: time.Unix(1, 0), Op: json.RawMessage(`{"k":"msg"}`)}
		if err := o.Add(it); err != nil {
			t.Fatal(err)
		}
	}
}

func openFile(t *testing.T, path string) *FileOutbox {
	t.Helper()
	o, err := OpenFileOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// TestOutboxes is the contract of both.
func TestOutboxes(t *testing.T) {
	for name, o := range map[string]Outbox{
		"memory": &MemoryOutbox{}, "file": openFile(t, filepath.Join(t.TempDir(), "outbox")),
	} {
		addItems(t, o, 4)
		if err := o.Remove("a/s", []string{"1", "3", "unknown"}); err != nil {
			t.Fatal(err)
		}
		if err := o.Remove("other/s", []string{"0"}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(oidsOf(t, o)); got != "[a/s:0 a/s:2]" {
			t.Errorf("%s keeps %s", name, got)
		}
	}
}

// TestFileOutboxSurvives: a crash in the middle of a line loses that line only.
func TestFileOutboxSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openFile(t, path)
	addItems(t, o, 3)
	if err := o.Remove("a/s", []string{"1"}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole, `{"add":{"s":"a/s","oi`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(oidsOf(t, openFile(t, path))); got != "[a/s:0 a/s:2]" {
		t.Errorf("after a crash: %s", got)
	}
	if err := os.WriteFile(path, []byte("not json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFileOutbox(path); err == nil {
		t.Error("a file that is no outbox was taken for one")
	}
}

func TestFileOutboxIsRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openFile(t, path)
	addItems(t, o, 1)
	for range 2 * maxDead {
		if err := o.Remove("a/s", []string{"none"}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxDead*64 || len(oidsOf(t, o)) != 1 {
		t.Fatalf("%v, %d bytes", err, info.Size())
	}
}

// TestOutboxIsPutAfterRestart: what another process left is put, in its session, though nobody has that open.
func TestOutboxIsPutAfterRestart(t *testing.T) {
	srv := newServer("beijing")
	defer srv.close()
	path := filepath.Join(t.TempDir(), "outbox")
	before, err := New(Config{Regions: srv.regions(), Token: noToken, Outbox: openFile(t, path)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, before).Send("left behind", SendOptions{}); err != nil {
		t.Fatal(err)
	}
	left := openFile(t, path)
	after, stop := run(t, Config{Regions: srv.regions(), Outbox: left})
	other, err := after.Session("alice/other")
	if err != nil {
		t.Fatal(err)
	}
	r, err := other.Send("new", SendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(t.Context(), Safe); err != nil {
		t.Fatal(err)
	}
	st := until(t, open(t, after), "message", func(st State) bool { return len(st.Log) == 1 && len(st.Outbox) == 0 })
	if st.Log[0].Text != "left behind" {
		t.Fatalf("%+v", st.Log[0])
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := oidsOf(t, left); len(got) != 0 {
		t.Fatalf("still kept: %v", got)
	}
}

// TestFileOutboxOnABadDisk: what the disk did not take is refused and not in the file, and what comes after that is, however the first write failed, and
// also if a new file could not be made at first.
func TestFileOutboxOnABadDisk(t *testing.T) {
	broken := func() *os.File { // takes nothing
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		return w
	}
	forgetful := func() *os.File { // takes all, and cannot be synced
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return w
	}
	item := Item{Session: "a/s", OID: "x", Born: time.Unix(1, 0), Op: json.RawMessage(`{"k":"msg"}`)}
	for _, c := range []struct {
		name string
		disk func() *os.File
		do   func(*FileOutbox) error
		full bool // at first
		want string
	}{
		{"add, not written", broken, func(o *FileOutbox) error { return o.Add(item) }, false, "[a/s:0 a/s:1 a/s:0]"},
		{"add, not synced", forgetful, func(o *FileOutbox) error { return o.Add(item) }, false, "[a/s:0 a/s:1 a/s:0]"},
		{"remove", broken, func(o *FileOutbox) error { return o.Remove("a/s", []string{"1"}) }, false, "[a/s:0 a/s:0]"},
		{"add, and no new file", broken, func(o *FileOutbox) error { return o.Add(item) }, true, "[a/s:0 a/s:1 a/s:0]"},
		{"remove, and no new file", broken, func(o *FileOutbox) error { return o.Remove("a/s", []string{"1"}) }, true, "[a/s:0 a/s:0]"},
	} {
		path := filepath.Join(t.TempDir(), "outbox")
		o := openFile(t, path)
		addItems(t, o, 2)
		_ = o.file.Close()
		o.file = c.disk()
		if c.full {
			o.path = filepath.Join(path, "none", "outbox")
		}
		if err := c.do(o); err == nil {
			t.Errorf("%s: no error", c.name)
		}
		o.path = path
		addItems(t, o, 1)
		if got := fmt.Sprint(oidsOf(t, openFile(t, path))); got != c.want {
			t.Errorf("%s: the file has %s, want %s", c.name, got, c.want)
		}
	}
}
