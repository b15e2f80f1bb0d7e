package client

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestEngine drives an engine by hand: hello, a put, its ok, what comes, the end of the connection, and back.
func TestEngine(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	kept := []Item{{Session: "u/x", OID: "a", Born: now, Op: json.RawMessage(`{"k":"msg","oid":"a","text":"one"}`)}}
	e, err := NewEngine(EngineConfig{
		Regions: []Region{{Name: "b", URL: "ws://b/"}, {Name: "s", URL: "ws://s/"}}, Device: "d", Dice: func() float64 { return 1 },
	}, kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Open("u/x", now); err != nil {
		t.Fatal(err)
	}
	say := func(want string, frames ...string) {
		t.Helper()
		for _, f := range frames {
			if err := e.Receive([]byte(f), now); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Tick(now); err != nil {
			t.Fatal(err)
		}
		if got := string(e.Take(now)); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Fatalf("sends %q, want %q", got, want)
		}
	}
	e.Begin("dev:u", now)
	say(`"t":"hello"`)
	say(`"oid":"a"`, `{"t":"welcome","id":1,"conn":"c","user":"u","region":"b","node":"n","ping":25,"exp":0,"max":{"frame":1000,"ops":10,"rate":50},`+
		`"regions":[{"name":"b","url":"ws://b/","state":"up"},{"name":"s","url":"ws://s/","state":"up"}]}`,
		`{"t":"snap","s":"u/x","cur":"c0","map":{},"read":{},"log":[],"more":false,"why":"new"}`)
	say("", `{"t":"ok","id":2,"s":"u/x","cur":"c1","at":[{"oid":"a","seq":1,"at":"b.1"}],"regions":0,"safe":false}`)
	if st, _ := e.State("u/x"); len(st.Log) != 1 || st.Outbox[0].Stage != Stored {
		t.Errorf("%+v", st)
	}
	if _, err := e.Put(Item{Session: "u/x", OID: "bad", Op: json.RawMessage(`{"k":"msg","oid":"other"}`)}, now); err == nil {
		t.Error("an op under another oid was taken")
	}
	if wait := e.Lost(now.Add(time.Minute)); wait > backoffMin {
		t.Errorf("waits %s after a connection that lived", wait)
	}
	if !e.Prefer("s") || e.Region().URL != "ws://s/" {
		t.Errorf("goes to %+v", e.Region())
	}
	e.Begin("dev:u", now)
	say(`"cur":"c1"`)
	say(`"oid":"a"`, `{"t":"welcome","id":1,"conn":"c","user":"u","region":"s","node":"n","ping":25,"exp":0,"max":{"frame":1000,"ops":10,"rate":50},"regions":[]}`)
	say("", `{"t":"ok","id":2,"s":"u/x","at":[{"oid":"a","seq":1,"at":"b.1"}],"regions":1,"safe":true}`)
	if gone := e.Gone(); len(gone) != 1 || gone[0] != "a" {
		t.Errorf("gone: %v", gone)
	}
}
