package app

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// kept keeps spans past the end of who sends them.
type kept struct{ *tracetest.InMemoryExporter }

func (kept) Shutdown(context.Context) error { return nil }

// step is a span as a reader of a trace sees it.
type step struct{ region, name, kind string }

func stepOf(s tracetest.SpanStub) step {
	st := step{name: s.Name}
	for _, a := range s.Resource.Attributes() {
		if a.Key == "cloud.region" {
			st.region = a.Value.String()
		}
	}
	for _, a := range s.Attributes {
		if a.Key == "roam.op.kind" {
			st.kind = a.Value.String()
		}
	}
	return st
}

// device is a client that speaks frames.
type device struct {
	t  *testing.T
	ws *websocket.Conn
}

func connect(t *testing.T, n *node) *device {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), n.opts.AdvertiseURL, &websocket.DialOptions{Subprotocols: []string{"roam.v1.json"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	d := &device{t, ws}
	d.say(`{"t":"hello","id":1,"token":"dev:alice","device":"d","open":[{"s":"alice/trip"}]}`)
	d.hear(`"t":"snap"`)
	return d
}

func (d *device) say(frame string) {
	d.t.Helper()
	if err := d.ws.Write(d.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		d.t.Fatal(err)
	}
}

// hear reads until a frame has all these parts.
func (d *device) hear(parts ...string) {
	d.t.Helper()
	for {
		_, b, err := d.ws.Read(d.t.Context())
		if err != nil {
			d.t.Fatalf("waiting for %q: %v", parts, err)
		}
		for line := range strings.Lines(string(b)) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return
			}
		}
	}
}

const (
	parentTrace = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + parentTrace + "-b7ad6b7169203331-01"
	tracedAsk   = `{"t":"put","id":2,"s":"alice/trip","ext":{"traceparent":"` + traceparent + `"},` +
		`"ops":[{"k":"msg","oid":"q1","text":"one two three","run":{}}]}`
)

// journey is what a question asked in Beijing, and its answer, leave behind when Shanghai has them open: each span with
// the one that it is below. The pieces of an answer but for the first leave nothing.
func journey() map[step]string {
	want := map[step]string{
		{"beijing", "put", "put"}: "(client)", {"beijing", "propose", "msg"}: "put", {"beijing", "enqueue", "run"}: "propose",
		{"beijing", "answer", "run"}: "enqueue", {"beijing", "chat echo", ""}: "answer",
	}
	for _, kind := range []string{"begin", "chunk", "done"} {
		want[step{"beijing", "propose", kind}] = "answer"
	}
	for _, kind := range []string{"msg", "begin", "chunk", "done"} {
		want[step{"beijing", "send", kind}] = "propose"
		want[step{"shanghai", "receive", kind}] = "propose"
		for _, region := range []string{"beijing", "shanghai"} {
			want[step{region, "apply", kind}] = "propose"
			want[step{region, "deliver", kind}] = "propose"
		}
	}
	return want
}

// check compares spans with the journey; it returns what is missing, and complains about what should not be.
func checkJourney(t *testing.T, spans tracetest.SpanStubs) (missing []step) {
	t.Helper()
	names, seen := map[trace.SpanID]string{}, map[step]int{}
	for _, s := range spans {
		names[s.SpanContext.SpanID()] = s.Name
	}
	want := journey()
	for _, s := range spans {
		st := stepOf(s)
		seen[st]++
		below, expected := want[st]
		parent := names[s.Parent.SpanID()]
		if parent == "" && s.Parent.SpanID().String() == "b7ad6b7169203331" {
			parent = "(client)"
		}
		switch {
		case s.SpanContext.TraceID().String() != parentTrace:
			t.Errorf("%v is of another trace, %s", st, s.SpanContext.TraceID())
		case !expected || seen[st] > 1:
			t.Errorf("%v is there, %d times", st, seen[st])
		case parent != "" && parent != below:
			t.Errorf("%v is below %s, want %s", st, parent, below)
		case s.EndTime.Before(s.StartTime):
			t.Errorf("%v ends before it begins", st)
		}
	}
	for st := range want {
		if seen[st] == 0 {
			missing = append(missing, st)
		}
	}
	return missing
}

// TestOneTrace: one trace shows a question from its frame in Beijing to its delivery in Shanghai, and its answer; other
// messages leave none.
func TestOneTrace(t *testing.T) {
	exp := kept{tracetest.NewInMemoryExporter()}
	w := newTracedWorld(t, exp, "beijing", "shanghai")
	phone, pad := connect(t, w.nodes["beijing"]), connect(t, w.nodes["shanghai"])
	phone.say(`{"t":"put","id":7,"s":"alice/trip","ops":[{"k":"msg","oid":"m0","text":"not watched","run":{}}]}`)
	phone.hear(`"t":"ok"`)
	pad.hear(`"state":"done"`)
	phone.say(tracedAsk)
	phone.hear(`"t":"ok"`)
	phone.hear(`"state":"done"`)
	pad.hear(`"oid":"q1"`)
	pad.hear(`"state":"done"`)
	w.until("all spans are there", func() bool { return len(exp.GetSpans()) >= len(journey()) })
	phone.ws.CloseNow()
	pad.ws.CloseNow()
	w.stopAll()
	if missing := checkJourney(t, exp.GetSpans()); len(missing) > 0 {
		t.Errorf("missing: %v", missing)
	}
	for _, s := range exp.GetSpans() {
		if s.Status.Description != "" {
			t.Errorf("%v: %s", stepOf(s), s.Status.Description)
		}
	}
}

func newTracedWorld(t *testing.T, exp sdktrace.SpanExporter, names ...string) *world {
	t.Helper()
	w := newWorld(t)
	w.tune = func(o *ServeOptions) { o.Exporter = exp }
	for _, name := range names {
		w.start(name, t.TempDir(), w.ring)
	}
	return w
}
