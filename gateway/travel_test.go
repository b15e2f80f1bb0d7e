package gateway

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/roamsync/roam/crdt"
)

// viewer is a client that follows the protocol: what it holds, and its last cur.
type viewer struct {
	*dialed
	cur     string
	entries map[string]string // oid -> place and text
	shown   map[string]int    // oid -> times that it came without a change
	tokens  map[string]string // run -> text so far
	acked   map[float64]bool
}

func (v *viewer) apply(t *testing.T, f frame) {
	if cur := f.str("cur"); cur != "" {
		v.cur = cur
	}
	switch f.str("t") {
	case "snap":
		v.entries, v.tokens = map[string]string{}, map[string]string{}
		v.take(f["log"].([]any))
	case "delta":
		v.take(f["ops"].([]any))
	case "tok":
		run, off := f.str("run"), int(f["off"].(float64))
		if held := v.tokens[run]; off != len(held) {
			t.Errorf("tok of %s at %d, %d held", run, off, len(held))
		}
		v.tokens[run] += f.str("d")
	case "ok":
		v.acked[f["id"].(float64)] = true
		at, _ := f["at"].([]any)
		for _, a := range at {
			p := frame(a.(map[string]any))
			v.entries[p.str("oid")] = fmt.Sprintf("%v %s", p["seq"], p.str("at"))
		}
	case "err":
		t.Errorf("%v", f)
	}
}

func (v *viewer) take(list []any) {
	for _, e := range list {
		f := frame(e.(map[string]any))
		place := fmt.Sprintf("%v %s", f["seq"], f.str("at"))
		if f.str("k") == "msg" && v.entries[f.str("oid")] == place {
			v.shown[f.str("oid")]++
		}
		v.entries[f.str("oid")] = place
		if text, ok := f["text"]; ok && f.str("k") == "run" {
			v.tokens[f.str("oid")] = text.(string)
		}
	}
}

// TestTravellersMissNothing: devices put, are cut off at random moments, and come back with their last cur. In the end
// each holds what the region does, and was sent nothing twice that it held.
func TestTravellersMissNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	f := newFake()
	g, url := serve(t, f)
	var devices []*viewer
	for range 3 {
		v := &viewer{entries: map[string]string{}, shown: map[string]int{}, tokens: map[string]string{}, acked: map[float64]bool{}}
		v.come(t, url)
		devices = append(devices, v)
	}
	for i := range 300 {
		v := devices[rng.IntN(len(devices))]
		switch rng.IntN(6) {
		case 5:
			if rng.IntN(8) == 0 {
				v.say(`{"t":"put","id":%d,"s":"alice/a","ops":[{"k":"msg","oid":"g%d","text":"x"},{"k":"forget","oid":"f%d"}]}`, i+10, i, i)
			}
		case 0:
			v.ws.CloseNow()
			v.queued = nil
			v.come(t, url)
		case 1:
			f.work(rng)
		case 2:
			v.say(`{"t":"put","id":%d,"s":"alice/a","ops":[{"k":"msg","oid":"q%d","text":"?","run":{}}]}`, i+10, i)
		default:
			v.say(`{"t":"put","id":%d,"s":"alice/a","ops":[{"k":"msg","oid":"m%d","text":"x"}]}`, i+10, i)
		}
		for range rng.IntN(4) {
			v.step(t)
		}
	}
	for len(g.all()) > len(devices) { // what came over connections that are cut may still be read
		runtime.Gosched()
	}
	for range 2 { // once for all puts to be taken, once more for what came of them to be shown
		for _, v := range devices {
			v.say(`{"t":"page","id":1000,"s":"alice/a","before":0,"limit":1}`)
			for done := false; !done; done = v.step(t) == "page" {
			}
		}
	}
	want := ""
	f.View("alice/a", func(st crdt.Store) {
		log, _ := crdt.Page(st, 0, 1<<30)
		var lines []string
		for _, e := range log {
			line := fmt.Sprintf("%s %d %s", e.OID, e.Seq, e.At)
			if e.Run != nil {
				line += " " + *e.Run.Text
			}
			lines = append(lines, line)
		}
		slices.Sort(lines)
		want = strings.Join(lines, "\n")
	})
	for i, v := range devices {
		if got := v.String(); got != want {
			t.Errorf("device %d holds\n%s\nwant\n%s", i, got, want)
		}
		if len(v.shown) > 0 {
			t.Errorf("device %d was sent again what it held: %v", i, v.shown)
		}
	}
}

// come connects and opens with the last cur.
func (v *viewer) come(t *testing.T, url string) {
	v.dialed = hello(t, url)
	v.say(`{"t":"open","id":2,"s":"alice/a","cur":%q,"tail":500}`, v.cur)
	for {
		if typ := v.step(t); typ == "snap" || typ == "delta" {
			return
		}
	}
}

// step applies the next frame, and asks for one if there may be none.
func (v *viewer) step(t *testing.T) string {
	v.say(`{"t":"close","id":3,"s":"alice/nothing"}`)
	f, err := v.hear()
	if err != nil {
		t.Fatal(err)
	}
	v.apply(t, f)
	return f.str("t")
}

func (v *viewer) String() string {
	var lines []string
	for oid, place := range v.entries {
		line := oid + " " + place
		if text, ok := v.tokens[oid]; ok {
			line += " " + text
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// work does a step of a worker on some open answer.
func (f *fake) work(rng *rand.Rand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.session("alice/a")
	runs := crdt.OpenRuns(st)
	if len(runs) == 0 {
		return
	}
	run := runs[rng.IntN(len(runs))]
	s, _ := crdt.ReadSlot(st, run)
	op := &crdt.Op{Kind: crdt.KindChunk, Session: "alice/a", Run: run, Nonce: "w", Off: s.Len, Text: "word ", Stamp: f.clock.Next(unixZero, 0)}
	switch {
	case s.State == crdt.RunQueued:
		op.Kind, op.Text, op.Model = crdt.KindBegin, "", "echo"
	case rng.IntN(5) == 0:
		op.Kind, op.Text, op.State, op.Fin = crdt.KindDone, "", crdt.RunDone, "end"
	}
	if crdt.IssueAnswer(st, op, "beijing").Verdict == crdt.Accepted {
		f.tell(eventOf(f.apply(op, f.self)))
	}
}
