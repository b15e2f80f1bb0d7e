package gateway

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

func tracer() (*tracetest.SpanRecorder, trace.Tracer) {
	rec := tracetest.NewSpanRecorder()
	return rec, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec)).Tracer("test")
}

func named(rec *tracetest.SpanRecorder, name string) (found []sdktrace.ReadOnlySpan) {
	for _, s := range rec.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	return found
}

const asked = `"ext":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`

// settle makes sure that what was written for a connection is done with: the ok of the second put comes after the
// message with that of the first, and whatever was before it, was sent.
func (d *dialed) settle() {
	d.t.Helper()
	for i := range 2 {
		d.say(`{"t":"page","id":%d,"s":"alice/a"}`, 90+i)
		d.expect("page")
	}
}

// TestAPutThatIsWatched: its span is below the client's, its ops carry it, and each delivery is a span.
func TestAPutThatIsWatched(t *testing.T) {
	rec, tr := tracer()
	f := newFake()
	_, url := serveWith(t, f, Config{Tracer: tr})
	var carried []*crdt.Trace
	f.Watch(func(evs []wire.Event) {
		for _, e := range evs {
			for _, ch := range e.Changes {
				carried = append(carried, ch.Op.Trace)
			}
		}
	})
	phone, pad := hello(t, url), hello(t, url)
	for _, d := range []*dialed{phone, pad} {
		d.say(`{"t":"open","id":2,"s":"alice/a"}`)
		d.expect("snap")
	}
	phone.say(`{"t":"put","id":3,"s":"alice/a",%s,"ops":[{"k":"msg","oid":"m1","text":"x"},{"k":"msg","oid":"m2","text":"y"}]}`, asked)
	phone.expect("ok")
	phone.say(`{"t":"put","id":4,"s":"alice/a","ops":[{"k":"msg","oid":"m3","text":"z"}]}`)
	phone.expect("ok")
	pad.expect("delta")
	phone.settle()
	pad.settle()

	puts := named(rec, "put")
	if len(puts) != 1 {
		t.Fatalf("%d puts are watched, want 1", len(puts))
	}
	sc := puts[0].SpanContext()
	if got := puts[0].Parent().SpanID().String(); got != "b7ad6b7169203331" || sc.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("the put is %v below %s", sc, got)
	}
	if len(carried) != 3 || carried[0] == nil || carried[0].Span != sc.SpanID() || *carried[1] != *carried[0] || carried[2] != nil {
		t.Errorf("carried: %v", carried)
	}
	delivered := named(rec, "deliver")
	if len(delivered) != 2 {
		t.Fatalf("%d deliveries, want 2", len(delivered))
	}
	for _, s := range delivered {
		if s.Parent().SpanID() != sc.SpanID() {
			t.Errorf("%v is not below the put", s.Parent())
		}
	}
}

// TestSpansOfPutsThatFail: whatever becomes of a put, its span ends, and says so.
func TestSpansOfPutsThatFail(t *testing.T) {
	rec, tr := tracer()
	f := newFake()
	g, url := serveWith(t, f, Config{Tracer: tr, TraceSample: 1})
	d := hello(t, url)
	put := func(id int, op string) {
		d.say(`{"t":"put","id":%d,"s":"alice/a","ops":[%s]}`, id, op)
		d.expect("err")
	}
	put(2, `{"k":"msg","oid":"m1"}`)                // not a message
	put(3, `{"k":"run","oid":"r1","of":"nothing"}`) // refused by the region
	f.mu.Lock()
	f.refuse = errors.New("full")
	f.mu.Unlock()
	put(4, `{"k":"msg","oid":"m1","text":"x"}`) // not taken
	ended := named(rec, "put")
	if len(ended) != 3 {
		t.Fatalf("%d spans ended, want 3", len(ended))
	}
	for _, s := range ended {
		if s.Status().Description == "" {
			t.Errorf("%v does not say what went wrong", s.Attributes())
		}
	}
	g.hub.watched.mu.Lock()
	defer g.hub.watched.mu.Unlock()
	if n := len(g.hub.watched.spans); n != 0 {
		t.Errorf("%d spans are kept", n)
	}
}

// TestWhatIsWatched: by chance, by the client's wish, and against it.
func TestWhatIsWatched(t *testing.T) {
	_, tr := tracer()
	no := []byte(`{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}`)
	yes := []byte(`{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`)
	for _, c := range []struct {
		share float64
		ext   []byte
		want  bool
	}{
		{0, nil, false}, {1, nil, true}, {1, no, false}, {0, yes, true}, {0, no, false},
		{0, []byte(`{"traceparent":"x"}`), false}, {1, []byte(`"text"`), true}, {1, []byte(`{"traceparent":7}`), true},
	} {
		g, _ := serveWith(t, newFake(), Config{Tracer: tr, TraceSample: c.share})
		if _, got := g.traces.decide(&wire.ClientFrame{Ext: c.ext}); got != c.want {
			t.Errorf("share %v, ext %s: %v", c.share, c.ext, got)
		}
	}
}

// TestWishesAreBounded: clients cannot have everything watched.
func TestWishesAreBounded(t *testing.T) {
	_, tr := tracer()
	g, _ := serveWith(t, newFake(), Config{Tracer: tr})
	g.traces.asked = bucket{tokens: askedRate, last: time.Now().Add(time.Hour)} // it does not fill up meanwhile
	granted := 0
	for range 3 * askedRate {
		if g.traces.asked.takeOf(g.traces.asked.last, askedRate, askedRate) {
			granted++
		}
	}
	if granted != askedRate {
		t.Errorf("%d wishes were granted, want %d", granted, askedRate)
	}
	f := &wire.ClientFrame{Ext: []byte(`{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`)}
	if _, yes := g.traces.decide(f); yes {
		t.Error("one more was granted")
	}
	if n := testutil.ToFloat64(g.metrics.sampled.WithLabelValues(sampledRefused)); n != 1 {
		t.Errorf("%v were counted", n)
	}
}

// TestShareOfChance: about as many are watched as were asked for: 5 % of 20,000 is 1,000, and six standard deviations
// are 185.
func TestShareOfChance(t *testing.T) {
	_, tr := tracer()
	g, _ := serveWith(t, newFake(), Config{Tracer: tr, TraceSample: 0.05})
	n := 0
	for range 20_000 {
		if _, yes := g.traces.decide(&wire.ClientFrame{}); yes {
			n++
		}
	}
	if n < 815 || n > 1185 {
		t.Errorf("%d of 20,000 at 5 %%", n)
	}
}

// TestDeliveriesAreBounded: a session that many have open does not make as many spans.
func TestDeliveriesAreBounded(t *testing.T) {
	rec, tr := tracer()
	f := newFake()
	_, url := serveWith(t, f, Config{Tracer: tr, TraceSample: 1})
	var all []*dialed
	for range maxDeliveries + 2 {
		d := hello(t, url)
		d.say(`{"t":"open","id":2,"s":"alice/a"}`)
		d.expect("snap")
		all = append(all, d)
	}
	all[0].say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m1","text":"x"}]}`)
	for i, d := range all {
		d.expect(map[bool]string{true: "ok", false: "delta"}[i == 0])
		d.settle()
	}
	delivered := named(rec, "deliver")
	if len(delivered) != maxDeliveries {
		t.Fatalf("%d deliveries are watched, want %d", len(delivered), maxDeliveries)
	}
	want := fmt.Sprint(len(all))
	for _, a := range delivered[0].Attributes() {
		if a.Key == "roam.fanout" && a.Value.String() != want {
			t.Errorf("fanout %s, want %s", a.Value.String(), want)
		}
	}
}

// TestUnwatchedPutsCostNothing: the decision, and what looks for spans behind it, allocate nothing.
func TestUnwatchedPutsCostNothing(t *testing.T) {
	_, tr := tracer()
	for name, cfg := range map[string]Config{"no tracing": {}, "tracing": {Tracer: tr, TraceSample: 1e-18}} {
		g, _ := serveWith(t, newFake(), cfg)
		f, c := &wire.ClientFrame{S: "alice/a", Ops: []wire.ClientOp{{OID: "m1"}}}, &Conn{g: g}
		e := &wire.Event{Changes: []wire.Change{{Op: &crdt.Op{}}}}
		if n := testing.AllocsPerRun(1000, func() {
			if g.traces.begin(c, f) != nil || tracedOp(e) != nil {
				t.Error("watched")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkDecision is what every put pays while tracing is on.
func BenchmarkDecision(b *testing.B) {
	_, tr := tracer()
	g, err := New(Config{Region: "beijing", Node: "b1", Backend: newFake(), Peers: newFake(), Auth: Dev{}, Keys: testKeys,
		Tracer: tr, TraceSample: 1e-18})
	if err != nil {
		b.Fatal(err)
	}
	f, c := &wire.ClientFrame{S: "alice/a"}, &Conn{g: g}
	b.ReportAllocs()
	for b.Loop() {
		if g.traces.begin(c, f) != nil {
			b.Fatal("watched")
		}
	}
}
