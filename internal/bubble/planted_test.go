package bubble

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/check"
)

// planted are faults of disks and of what comes over the network, each of which has to be found, and by the right checker.
var planted = []struct {
	name  string
	found string // begins what one of the checkers says
	scene func(w *world)
}{
	{"a disk that says it has synced", "1 acknowledged", func(w *world) {
		for _, n := range w.region("beijing").nodes {
			n.disk.mu.Lock()
			n.disk.lies = true
			n.disk.mu.Unlock()
		}
		phoneInTheLake(w)
	}},
	{"a piece of an answer that comes twice", "6 and 11", func(w *world) {
		w.doctor = func(b []byte) []byte {
			for line := range bytes.Lines(b) {
				if bytes.Contains(line, []byte(`"t":"tok"`)) {
					return append(slices.Clone(b), append([]byte("\n"), line...)...)
				}
			}
			return b
		}
		asksAndHears(w)
	}},
	{"a frame that does not come", "6 and", func(w *world) {
		w.doctor = func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte(`"t":"delta"`), []byte(`"t":"nothing"`))
		}
		d, other := w.newDevice("alice", "phone", trip, "beijing"), w.newDevice("alice", "laptop", trip, "beijing")
		w.await("they are connected", func() bool { return d.live("beijing") && other.live("beijing") })
		d.wait(d.say(), client.Stored)
	}},
	{"an ok that comes late", "13 local", func(w *world) {
		w.doctor = func(b []byte) []byte {
			if bytes.Contains(b, []byte(`"t":"ok"`)) {
				pass(5 * time.Second)
			}
			return b
		}
		pass(time.Minute) // the start of a region counts as trouble
		asksAndHears(w)
	}},
	{"regions that stay apart", "12 level", func(w *world) {
		d := w.newDevice("alice", "phone", trip, "beijing")
		north, south := w.region("beijing").nodes[0].place, w.region("shanghai").nodes[0].place
		w.net.SetDelay(north, south, time.Hour)
		w.net.SetDelay(south, north, time.Hour)
		d.wait(d.say(), client.Stored)
	}},
}

func asksAndHears(w *world) {
	d := w.newDevice("alice", "phone", trip, "beijing")
	d.wait(d.ask(20), client.Stored)
	w.await("it is answered", func() bool { return d.unsettled() == "" })
}

func TestPlantedFaultsAreFound(t *testing.T) {
	for i, p := range planted {
		t.Run(strings.ReplaceAll(p.name, " ", "_"), func(t *testing.T) {
			expect(t, broken(t, uint64(i), two, p.scene), p.found)
		})
	}
}

func expect(t *testing.T, found []string, want string) {
	t.Helper()
	if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, want) }) {
		t.Errorf("found %.600q, want %q", found, want)
	}
}

// story is a conversation as a client gets it.
const story = `{"t":"snap","s":"alice/trip","cur":"c","map":{"title":{"v":"x","hlc":"1","user":"alice","oid":"s"}},"read":{},"log":[` +
	`{"k":"msg","oid":"m","seq":1,"at":"b","ts":1,"user":"alice","device":"d","role":"user","text":"hi"},` +
	`{"k":"msg","oid":"q","seq":2,"at":"b","ts":1,"user":"alice","device":"d","role":"user","text":"ask me"},` +
	`{"k":"run","oid":"r","seq":3,"at":"b","ts":1,"of":"q","model":"","state":"done","ep":"5","len":6,"sum":"SUM","fin":"end","text":"ask me"}` +
	`],"more":false,"why":"new"}`

func told(t *testing.T) *check.View {
	v := check.NewView(trip)
	frames, err := check.Parse([]byte(strings.Replace(story, "SUM", check.Digest("ask me"), 1)))
	if err != nil {
		t.Fatal(err)
	}
	v.Apply(frames[0])
	if len(v.Faults) > 0 {
		t.Fatal(v.Faults)
	}
	return v
}

// sound is an outcome with nothing wrong in it.
func sound(t *testing.T) *outcome {
	o := &outcome{acked: []ack{
		{session: trip, region: "beijing", oid: "m", kind: "msg", text: "hi"},
		{session: trip, region: "beijing", oid: "q", kind: "msg", text: "ask me", asks: true, after: 1},
		{session: trip, region: "beijing", oid: "s", kind: "set", key: "title"},
	}}
	for _, place := range []string{"beijing/n1", "shanghai/n1"} {
		v := told(t)
		o.copies = append(o.copies, copyOf{who: place, session: trip, rows: viewRows(v), view: v})
		o.nodes = append(o.nodes, nodeState{place, []partition{{map[string]uint64{"a": 3}, "d1"}}})
	}
	o.copies = append(o.copies, copyOf{who: "phone", session: trip, rows: viewRows(told(t)), part: true})
	return o
}

// TestDoctoredOutcomes: each check of the end can fail.
func TestDoctoredOutcomes(t *testing.T) {
	if found := sound(t).broken(); len(found) > 0 {
		t.Fatalf("nothing is wrong, yet found: %q", found)
	}
	for _, c := range []struct {
		want  string
		spoil func(o *outcome)
	}{
		{"1 acknowledged", func(o *outcome) { delete(o.copies[1].view.Entries, "m") }},
		{"1 acknowledged", func(o *outcome) { delete(o.copies[1].view.Values, "title") }},
		{"2 one oid", func(o *outcome) { o.copies[0].view.Entries["m"].Shown = "ho" }},
		{"7 order", func(o *outcome) { o.acked[1].after = 2 }},
		{"5 equal state", func(o *outcome) { o.nodes[1].partitions[0].Digest = "d2" }},
		{"6 and 7", func(o *outcome) { o.copies[2].rows = o.copies[2].rows[1:] }},
		{"6 and 7", func(o *outcome) { slices.Reverse(o.copies[1].rows) }},
		{"11 one answer", func(o *outcome) { delete(o.copies[1].view.Entries, "r") }},
		{"11 whole answers", func(o *outcome) { o.copies[0].view.Entries["r"].Shown = "ask" }},
		{"11 whole answers", func(o *outcome) { o.copies[0].view.Entries["r"].State = "failed" }},
	} {
		o := sound(t)
		c.spoil(o)
		expect(t, o.broken(), c.want)
	}
}
