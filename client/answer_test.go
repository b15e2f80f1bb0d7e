package client

import (
	"encoding/json"
	"testing"
)

func TestTok(t *testing.T) {
	for name, c := range map[string]struct {
		state, ep string
		off       uint64
		d         string
		fit       fit
		text      string
	}{
		"append":                    {"running", "2", 5, " you", fits, "hello you"},
		"empty append":              {"running", "2", 5, "", stale, "hello"},
		"overlap is dropped":        {"running", "2", 3, "lo you", fits, "hello you"},
		"held already":              {"running", "2", 1, "ell", stale, "hello"},
		"gap":                       {"running", "2", 6, "you", gap, "hello"},
		"smaller attempt":           {"running", "1", 5, "x", stale, "hello"},
		"greater attempt":           {"running", "3", 2, "y", fits, "hey"},
		"greater attempt from 0":    {"running", "3", 0, "hi", fits, "hi"},
		"greater attempt, gap":      {"running", "3", 6, "x", gap, "hello"},
		"closed":                    {"done", "2", 5, "x", stale, "hello"},
		"closed, greater attempt":   {"done", "3", 5, "x", fits, "hellox"},
		"in the middle of a letter": {"running", "2", 4, "o好", fits, "hello好"},
	} {
		a := answer{state: c.state, ep: "2", text: []byte("hello")}
		if got := a.tok(c.ep, c.off, c.d); got != c.fit || string(a.text) != c.text {
			t.Errorf("%s: %v %q", name, got, a.text)
		}
		if again := a.tok(c.ep, c.off, c.d); again == fits && c.d != "" || string(a.text) != c.text {
			t.Errorf("%s, again: %v %q", name, again, a.text)
		}
	}
}

func TestAnswerEntry(t *testing.T) {
	text := func(s string) *string { return &s }
	size := func(n uint64) *uint64 { return &n }
	for name, c := range map[string]struct {
		held answer
		in   item
		fit  fit
		text string
	}{
		"first":                      {answer{}, item{State: "queued", Text: text("")}, fits, ""},
		"unchanged text":             {answer{ep: "1", text: []byte("ab")}, item{EP: "1", State: "running"}, fits, "ab"},
		"longer text":                {answer{ep: "1", text: []byte("ab")}, item{EP: "1", State: "running", Text: text("abc")}, fits, "abc"},
		"a region that is behind":    {answer{ep: "1", state: "running", text: []byte("abc")}, item{EP: "1", State: "running", Text: text("ab")}, fits, "abc"},
		"new attempt":                {answer{ep: "1", text: []byte("ab")}, item{EP: "2", State: "running", Text: text("")}, fits, ""},
		"old attempt":                {answer{ep: "2", text: []byte("ab")}, item{EP: "1", State: "done", Text: text("x")}, stale, "ab"},
		"closed stays closed":        {answer{ep: "1", state: "done", text: []byte("ab")}, item{EP: "1", State: "running", Text: text("a")}, stale, "ab"},
		"closed and whole":           {answer{ep: "1", text: []byte("ab")}, item{EP: "1", State: "done", Len: size(2), Sum: sumOf([]byte("ab"))}, fits, "ab"},
		"closed, other length":       {answer{ep: "1", text: []byte("ab")}, item{EP: "1", State: "done", Len: size(3)}, differ, "ab"},
		"closed, other text":         {answer{ep: "1", text: []byte("ab")}, item{EP: "1", State: "done", Len: size(2), Sum: sumOf([]byte("ba"))}, differ, "ab"},
		"closed, text comes with it": {answer{ep: "1", text: []byte("abc")}, item{EP: "1", State: "done", Len: size(2), Sum: sumOf([]byte("ab")), Text: text("ab")}, fits, "ab"},
	} {
		a := c.held
		for range 2 {
			if got := a.entry(&c.in); got != c.fit || string(a.text) != c.text {
				t.Errorf("%s: %v %q", name, got, a.text)
			}
		}
	}
}

func TestMapOps(t *testing.T) {
	text := func(s string) *string { return &s }
	r := newReplica()
	r.take([]item{{K: "msg", OID: "m", Seq: 1, At: "a", Text: text("one")}})
	r.take([]item{
		{K: "set", Key: "k", V: json.RawMessage("1"), HLC: "2"},
		{K: "set", Key: "k", V: json.RawMessage("0"), HLC: "1"},
		{K: "set", Key: "gone", V: json.RawMessage("1"), HLC: "1"},
		{K: "set", Key: "gone", V: json.RawMessage("null"), HLC: "3"},
		{K: "set", Key: "gone", V: json.RawMessage("2"), HLC: "2"},
		{K: "edit", Of: "m", Text: text("three"), HLC: "3"},
		{K: "edit", Of: "m", Text: text("two"), HLC: "2"},
		{K: "edit", Of: "unknown", Text: text("x"), HLC: "1"},
		{K: "react", Of: "m", User: "bob", V: json.RawMessage(`"+1"`), On: true, HLC: "1"},
		{K: "react", Of: "m", User: "al", V: json.RawMessage(`"+1"`), On: true, HLC: "1"},
		{K: "react", Of: "m", User: "bob", V: json.RawMessage(`"+1"`), HLC: "2"},
		{K: "read", User: "bob", Seq: 5},
		{K: "read", User: "bob", Seq: 4},
		{K: "later version", OID: "?"},
	})
	m := r.show()[0]
	if len(r.vals) != 1 || string(r.vals["k"].JSON) != "1" || m.Text != "three" || !m.Edited || r.read["bob"] != 5 {
		t.Errorf("%+v %+v %v", r.vals, m, r.read)
	}
	if users := m.React["+1"]; len(users) != 1 || users[0] != "al" {
		t.Errorf("reactions %v", m.React)
	}
	r.take([]item{{K: "del", Of: "m", HLC: "4"}})
	if now := r.show()[0]; !now.Deleted || now.Text != "" || m.Text != "three" {
		t.Errorf("deleted %+v; the entry shown before is now %+v", now, m)
	}
}
