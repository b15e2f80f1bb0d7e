package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// device is a core, and the model's end of the connection it has, if any.
type device struct {
	t    *rapid.T
	w    *world
	core *core
	conn *modelConn
	now  time.Time
	in   []any // on their way to the device
	ops  []string
	rare *rapid.Generator[int]
}

const modelID = "alice/trip"

func (d *device) chance(name string) bool { return d.rare.Draw(d.t, name) == 0 }

func (d *device) connect(region string) {
	d.conn = d.w.connect(region)
	d.conn.bare = func() bool { return d.chance("bare") }
	d.conn.lose = func() bool { return d.chance("lose") }
	d.conn.refuse = func(putFrame) *frame {
		if !d.chance("refuse") {
			return nil
		}
		retry := int64(100)
		return &frame{Code: "unavailable", Retry: &retry}
	}
	d.core.begin("dev:alice", d.now)
}

func (d *device) drop() {
	d.core.lost()
	d.conn, d.in = nil, nil
}

// exchange sends what the device has to send, and what the region has to send into the pipe.
func (d *device) exchange() {
	if d.conn == nil {
		return
	}
	if err := d.core.tick(d.now); err != nil {
		d.drop()
		return
	}
	for _, f := range d.core.take(d.now) {
		d.conn.receive(encodeFrames([]any{f}))
	}
	d.conn.flush(modelID)
	d.in = append(d.in, d.conn.out...)
	d.conn.out = nil
}

// deliver gives the device up to n frames; some twice, as nothing forbids.
func (d *device) deliver(n int) {
	for ; n > 0 && len(d.in) > 0; n-- {
		f := d.in[0]
		d.in = d.in[1:]
		d.receive(f)
		if tok, ok := f.(tokFrame); ok && d.chance("twice") {
			d.receive(tok)
		}
	}
}

func (d *device) receive(f any) {
	frames, err := decodeFrames(encodeFrames([]any{f}))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range frames {
		if err := d.core.receive(f, d.now); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *device) put(o op) {
	s := d.core.session(modelID)
	if d.core.admit(s) != nil {
		return
	}
	o.OID = fmt.Sprintf("op-%03d", d.w.tick())
	raw, _ := json.Marshal(o)
	d.core.enqueue(s, &pending{op: o, raw: raw, born: d.now}, d.now)
	d.ops = append(d.ops, o.OID)
}

// calm lets everything arrive that is on its way, without faults.
func (d *device) calm() {
	d.rare = rapid.Just(1)
	for _, run := range d.runs() { // a piece that was lost shows when its answer ends
		d.w.answer(modelID, "a", run, "done", 0)
	}
	for range 40 {
		if d.conn == nil {
			d.connect("a")
		}
		for _, r := range d.w.regions {
			s := d.w.session(modelID)
			s.has[r] = len(s.events)
		}
		d.now = d.now.Add(time.Second)
		d.exchange()
		if d.conn != nil {
			d.conn.safe()
		}
		d.deliver(1 << 20)
	}
}

func (d *device) check() {
	d.t.Helper()
	s, want := d.core.sessions[modelID], d.w.session(modelID)
	if !s.live || len(s.queue.ops) != 0 || d.core.held != 0 {
		d.t.Fatalf("live %v, %d ops in the outbox, %d held", s.live, len(s.queue.ops), d.core.held)
	}
	v := want.view(len(want.events))
	got, expect := showLog(s.replica.show()), showItems(v.log())
	if !slices.Equal(got, expect) {
		d.t.Fatalf("log:\n got  %v\n want %v", got, expect)
	}
	for k, it := range v.vals {
		if val, ok := s.replica.vals[k]; ok == isNull(it.V) || ok && string(val.JSON) != string(it.V) {
			d.t.Fatalf("map %s: got %s (%v), want %s", k, val.JSON, ok, it.V)
		}
	}
	for _, oid := range d.ops {
		n := 0
		for _, e := range want.events {
			if e.item != nil && e.item.OID == oid && e.by != nil {
				n++
			}
		}
		if n != 1 {
			d.t.Fatalf("op %s was accepted %d times", oid, n)
		}
	}
}

func showLog(log []*Entry) (lines []string) {
	for _, e := range log {
		lines = append(lines, fmt.Sprintf("%d/%s %s %s %q %s %v", e.Seq, e.At, e.Kind, e.OID, e.Text, e.Status, e.Edited))
	}
	return lines
}

func showItems(log []*item) (lines []string) {
	for _, e := range log {
		text := ""
		if e.Text != nil {
			text = *e.Text
		}
		lines = append(lines, fmt.Sprintf("%d/%s %s %s %q %s %v", e.Seq, e.At, e.K, e.OID, text, e.State, e.Edited))
	}
	return lines
}

// runs lists the answers of the model that are open.
func (d *device) runs() (open []string) {
	s := d.w.session(modelID)
	for _, it := range s.view(len(s.events)).log() {
		if it.K == "run" && !closedState(it.State) {
			open = append(open, it.OID)
		}
	}
	return open
}

// TestConverges: whatever is cut, delayed, lost, refused or moved, in the end the device holds what the regions hold, each
// of its ops was accepted once, and its outbox is empty.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &device{
			t: t, w: newWorld("a", "b"), core: newCore("phone", "test", 100), now: time.Unix(1_700_000_000, 0),
			rare: rapid.IntRange(0, 9),
		}
		d.core.open(modelID, d.now)
		t.Repeat(d.actions())
		d.calm()
		d.check()
	})
}

func (d *device) actions() map[string]func(*rapid.T) {
	text := func() *string { s := fmt.Sprint("text ", d.w.tick()); return &s }
	region := func() string { return rapid.SampledFrom(d.w.regions).Draw(d.t, "region") }
	return map[string]func(*rapid.T){
		"connect": func(*rapid.T) {
			if d.conn == nil {
				d.connect(region())
			}
		},
		"drop":     func(*rapid.T) { d.drop() },
		"exchange": func(*rapid.T) { d.exchange() },
		"deliver":  func(*rapid.T) { d.deliver(rapid.IntRange(1, 5).Draw(d.t, "n")) },
		"wait": func(*rapid.T) {
			d.now = d.now.Add(time.Duration(rapid.IntRange(1, 9000).Draw(d.t, "ms")) * time.Millisecond)
		},
		"say": func(*rapid.T) { d.put(op{K: "msg", Text: text()}) },
		"ask": func(*rapid.T) { d.put(op{K: "msg", Text: text(), Run: json.RawMessage(`{}`)}) },
		"set": func(*rapid.T) {
			v := rapid.SampledFrom([]string{`"x"`, `1`, `null`}).Draw(d.t, "v")
			d.put(op{K: "set", Key: rapid.SampledFrom([]string{"k", "l"}).Draw(d.t, "key"), V: json.RawMessage(v)})
		},
		"safe": func(*rapid.T) {
			if d.conn != nil {
				d.conn.safe()
			}
		},
		"resync": func(*rapid.T) {
			if d.conn != nil && d.core.link.up {
				d.conn.snap(0, modelID, "resync")
			}
		},
		"elsewhere": func(*rapid.T) { d.elsewhere(region(), text()) },
		"answer": func(*rapid.T) {
			if runs := d.runs(); len(runs) > 0 {
				run := rapid.SampledFrom(runs).Draw(d.t, "run")
				step := rapid.SampledFrom([]string{"begin", "piece", "piece", "piece", "done"}).Draw(d.t, "step")
				d.w.answer(modelID, d.caughtUp(region()), run, step, rapid.IntRange(1, 6).Draw(d.t, "size"))
			}
		},
		"replicate": func(*rapid.T) { d.caughtUp(region()) },
	}
}

func (d *device) caughtUp(region string) string {
	s := d.w.session(modelID)
	s.has[region] = len(s.events)
	return region
}

// elsewhere is another device at work, or an entry that two regions had at different places.
func (d *device) elsewhere(region string, text *string) {
	s := d.w.session(modelID)
	v := s.view(len(s.events))
	log := v.log()
	d.caughtUp(region)
	oid := fmt.Sprintf("other-%03d", d.w.tick())
	switch kind := rapid.SampledFrom([]string{"msg", "set", "edit", "move"}).Draw(d.t, "other"); {
	case kind == "msg" || kind != "set" && len(log) == 0:
		d.w.add(modelID, region, event{item: &item{K: "msg", OID: oid, Seq: v.maxSeq() + 1, At: region + ".1", Text: text}})
	case kind == "set":
		hlc := fmt.Sprintf("%016x", max(1, d.w.clock-rapid.IntRange(0, 20).Draw(d.t, "late"))) + "b"
		d.w.add(modelID, region, event{item: &item{K: "set", OID: oid, Key: "k", V: json.RawMessage(`"b"`), HLC: hlc}})
	default:
		it := *rapid.SampledFrom(log).Draw(d.t, "entry")
		switch {
		case it.K != "msg":
		case kind == "edit":
			d.w.add(modelID, region, event{item: &item{K: "edit", OID: oid, Of: it.OID, Text: text, HLC: d.w.hlc()}})
		case it.Seq > 1:
			it.Seq, it.At = it.Seq-1, "a.0"
			d.w.add(modelID, region, event{item: &it})
		}
	}
}
