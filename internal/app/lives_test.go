package app

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/crdt"
)

// opens opens the session with what a client holds, and returns the frame that answers.
func (d *device) opens(cur string) (f struct {
	T, Cur string
	Ops    []json.RawMessage
}) {
	d.t.Helper()
	if err := d.ws.Write(d.t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"t":"open","id":9,"s":"alice/trip","cur":%q}`, cur)); err != nil {
		d.t.Fatal(err)
	}
	for {
		_, b, err := d.ws.Read(d.t.Context())
		if err != nil {
			d.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				d.t.Fatal(err)
			}
			if strings.Contains(line, `"id":9`) {
				return f
			}
		}
	}
}

// TestHundredsOfLives: a region that has begun anew three hundred times in a row goes on, the one that follows it catches up, and a client that moves
// between them is sent what it lacks and nothing else.
func TestHundredsOfLives(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := newWorld(t, "beijing", "shanghai")
	const lives = 300
	for i := range lives {
		w.put("beijing", fmt.Sprint("m", i))
		self := w.nodes["beijing"].region.Self(0)
		if err := w.nodes["beijing"].region.Renew(t.Context(), self, 0, "test"); err != nil {
			t.Fatal(err)
		}
	}
	w.put("beijing", "last")
	w.until("shanghai has it", func() bool { return w.has("shanghai", "last") })
	seen := 0
	if err := w.nodes["shanghai"].region.View(session, func(st crdt.Store) { seen = len(crdt.ReadHeader(st).Seen) }); err != nil || seen != lives+1 {
		t.Fatalf("%d incarnations have written to the session, %v", seen, err)
	}
	held := connect(t, w.nodes["beijing"]).opens("")
	w.put("beijing", "missed")
	w.until("shanghai has it", func() bool { return w.has("shanghai", "missed") })
	if f := connect(t, w.nodes["shanghai"]).opens(held.Cur); f.T != "delta" || len(f.Ops) != 1 {
		t.Errorf("with a token of %d characters it is sent a %s of %d", len(held.Cur), f.T, len(f.Ops))
	}
	w.equal()
}
