package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// collectorConfig takes OTLP at an address and writes to a file what came.
const collectorConfig = `
receivers: {otlp: {protocols: {grpc: {endpoint: %q}}}}
exporters: {file: {path: %q}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [file]}}
`

// startCollector runs an OpenTelemetry collector and returns its address, and the file that it writes.
func startCollector(t *testing.T) (addr, file string) {
	t.Helper()
	program, err := filepath.Abs("../../bin/collector")
	must(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: make collector builds it", err)
	}
	dir := t.TempDir()
	addr, file = freeAddr(), filepath.Join(dir, "traces.json")
	cfg := filepath.Join(dir, "collector.yaml")
	must(t, os.WriteFile(cfg, fmt.Appendf(nil, collectorConfig, addr, file), 0o600))
	p, err := start("collector", nil, program, "--config", cfg)
	must(t, err)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("collector said:\n%s", p.errout.tail())
		}
	})
	_, err = p.says("Everything is ready")
	must(t, err)
	return addr, file
}

// attr is an attribute in OTLP's JSON.
type attr struct {
	Key   string
	Value struct{ StringValue string }
}

func get(attrs []attr, key string) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value.StringValue
		}
	}
	return ""
}

// span is one as the collector wrote it, with the resource that it came from.
type span struct {
	TraceID      string `json:"traceId"`
	SpanID       string `json:"spanId"`
	ParentSpanID string `json:"parentSpanId"`
	Name         string
	Attributes   []attr
	resource     []attr
}

// String says where which kind of op was at which door.
func (s *span) String() string {
	return strings.TrimSpace(strings.Join([]string{get(s.resource, "service.name"), get(s.resource, "cloud.region"), s.Name,
		get(s.Attributes, "roam.op.kind")}, " "))
}

// collected reads what the collector has written by now.
func collected(t *testing.T, file string) (all []*span) {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF { // what is being written comes the next time
			return all
		}
		must(t, err)
		var req struct {
			ResourceSpans []struct {
				Resource   struct{ Attributes []attr }
				ScopeSpans []struct{ Spans []*span }
			}
		}
		must(t, json.Unmarshal(line, &req))
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					s.resource = rs.Resource.Attributes
					all = append(all, s)
				}
			}
		}
	}
}

// traceOf returns the spans of the trace in which a message was put.
func traceOf(all []*span, oid string) (found []*span) {
	id := ""
	for _, s := range all {
		if s.Name == "put" && get(s.Attributes, "messaging.message.id") == oid {
			id = s.TraceID
		}
	}
	for _, s := range all {
		if s.TraceID == id {
			found = append(found, s)
		}
	}
	return found
}

// doors is what one question in Beijing, and its answer, leave in a collector.
func doors() (all []string) {
	all = []string{
		"roam beijing put put", "roam beijing propose msg", "roam beijing enqueue run", "roam-worker beijing answer run",
		"roam-worker beijing chat echo",
	}
	for _, kind := range []string{"begin", "chunk", "done"} {
		all = append(all, "roam beijing propose "+kind)
	}
	for _, kind := range []string{"msg", "begin", "chunk", "done"} {
		all = append(all, "roam beijing send "+kind, "roam shanghai receive "+kind)
		for _, region := range []string{"beijing", "shanghai"} {
			all = append(all, "roam "+region+" apply "+kind, "roam "+region+" deliver "+kind)
		}
	}
	return all
}

// unlike compares what a trace has with what it should.
func unlike(trace []*span, want []string) (problems []string) {
	seen := map[string]int{}
	for _, s := range trace {
		seen[s.String()]++
	}
	for _, w := range want {
		if seen[w] != 1 {
			problems = append(problems, fmt.Sprintf("%q is there %d times", w, seen[w]))
		}
		delete(seen, w)
	}
	for s := range seen {
		problems = append(problems, fmt.Sprintf("%q is there", s))
	}
	return problems
}

// eventually looks until nothing is wrong, and returns what is wrong in the end.
func eventually(look func() []string) (wrong []string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if wrong = look(); len(wrong) == 0 {
			return nil
		}
	}
	return wrong
}

// TestTraceInACollector: nodes and workers as processes send their spans to a collector, and there one trace shows a
// message from Beijing to its delivery in Shanghai, and its answer. Every span but the first has its parent there.
func TestTraceInACollector(t *testing.T) {
	t.Parallel()
	addr, file := startCollector(t)
	list := sites(t, "beijing", "shanghai")
	for _, s := range list {
		s.extra = append(s.extra, "--otlp-endpoint", addr, "--trace-sample", "1")
		s.workerExtra = []string{"--otlp-endpoint", addr}
	}
	must(t, startAll(list))
	phone, pad := user(t, "anna", "phone"), user(t, "anna", "pad")
	must(t, phone.connect(list[0], "anna/x"))
	must(t, pad.connect(list[1], "anna/x"))
	must(t, phone.put("anna/x", ask("q1", "one two three")))
	answered := func(d *device) error {
		return d.until("the answer is there", func() bool { return d.view("anna/x").Answered("q1") })
	}
	must(t, answered(phone))
	must(t, answered(pad))
	must(t, phone.put("anna/x", msg("m2", "another message is another trace")))

	for _, w := range eventually(func() []string { return unlike(traceOf(collected(t, file), "q1"), doors()) }) {
		t.Error(w)
	}
	trace := traceOf(collected(t, file), "q1")
	ids := map[string]bool{}
	for _, s := range trace {
		ids[s.SpanID] = true
	}
	for _, s := range trace {
		if (s.Name == "put") != (s.ParentSpanID == "") || (s.ParentSpanID != "" && !ids[s.ParentSpanID]) {
			t.Errorf("%v is below %q, which is not in the trace", s, s.ParentSpanID)
		}
	}
	if other := eventually(func() []string {
		if len(traceOf(collected(t, file), "m2")) == 0 {
			return []string{"the other message left no trace"}
		}
		return nil
	}); other != nil {
		t.Error(other)
	}
}

// metric reads one from a node's /metrics; 0 if it is not there.
func metric(t *testing.T, admin, name string) float64 {
	t.Helper()
	res, err := http.Get("http://" + admin + "/metrics")
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(b)
	if m == nil {
		return 0
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	must(t, err)
	return v
}

// TestCollectorIsDown: a node whose collector is not there works, counts what is lost, says so once, and ends in order.
func TestCollectorIsDown(t *testing.T) {
	t.Parallel()
	s := sites(t, "beijing")[0].embedded()
	s.extra = append(s.extra, "--otlp-endpoint", freeAddr(), "--trace-sample", "1")
	must(t, s.startServe())
	must(t, s.ready())
	d := user(t, "anna", "phone")
	must(t, d.connect(s, "anna/x"))
	for i := range 20 {
		must(t, d.put("anna/x", msg(fmt.Sprintf("m%d", i), "nobody looks")))
	}
	for _, w := range eventually(func() []string {
		if metric(t, s.admin, `roam_trace_spans_dropped_total{reason="unsent"}`) == 0 {
			return []string{"nothing was counted"}
		}
		return nil
	}) {
		t.Error(w)
	}
	must(t, d.put("anna/x", msg("last", "still nobody")))
	if n := metric(t, s.admin, `roam_gateway_put_seconds_count{outcome="ok"}`); n != 21 {
		t.Errorf("%v puts were measured, want 21", n)
	}
	if n := strings.Count(s.serve.errout.all(), "spans are lost"); n != 1 {
		t.Errorf("the log says %d times that spans are lost, want 1:\n%s", n, s.serve.errout.tail())
	}
}
