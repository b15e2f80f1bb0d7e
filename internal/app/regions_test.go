package app

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/wire"
)

// waiting is how many of the tests run side by side that wait for regions to miss and find each other, mostly: a second of the processor for
// twenty. The command line says otherwise with -parallel.
const waiting = "8"

// patience is for what has to come about in the end: on a machine that does much else, it takes its time.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", waiting); err != nil {
		panic(err)
	}
	// memberlist does not wait for its probes when it shuts down; they end by their time-outs.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).triggerFunc"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).pushPullTrigger"))
}

// world is some regions of one node each, on a network that can be cut.
type world struct {
	t     *testing.T
	net   *memnet.Network
	ring  KeyRing
	nodes map[string]*node
	first string
	tune  func(*ServeOptions) // if set, changes each node's options
	stops []func()
	ends  error // that a node may end with
}

func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	wan, err := memnet.New(memnet.Config{Delay: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wan.Close)
	ring, err := newKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, net: wan, ring: ring, nodes: map[string]*node{}}
	for _, name := range names {
		w.start(name, t.TempDir(), ring)
	}
	return w
}

func (w *world) options(name, dir string) ServeOptions {
	o := ServeOptions{
		Region: name, Node: "n1", Data: dir, BootstrapExpect: 1, Redis: embedded, Worker: "echo", Auth: "dev",
		ClientAddr: anyPort, AdminAddr: anyPort, ClusterAddr: anyPort, PeerAddr: anyPort,
	}
	if w.first != "" {
		o.Join = []string{w.nodes[w.first].opts.ClusterAddr}
	}
	if w.tune != nil {
		w.tune(&o)
	}
	return o
}

// start runs a node until the test ends, or stop.
func (w *world) start(name, dir string, ring KeyRing) (stop func()) {
	w.t.Helper()
	return w.startWith(name, w.options(name, dir), ring)
}

func (w *world) startWith(name string, o ServeOptions, ring KeyRing) (stop func()) {
	w.t.Helper()
	n, err := newNode(o, ring, emulated(w.net, o.Region), newLogger(w.t.Output(), "warn"))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.run(ctx, func() { close(up) }) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil && (w.ends == nil || !errors.Is(err, w.ends)) {
				w.t.Error(err)
			}
			n.close()
		}
	}
	w.t.Cleanup(stop)
	w.stops = append(w.stops, stop)
	select {
	case <-up:
	case err := <-done:
		w.t.Fatal(err)
	}
	w.nodes[name] = n
	if w.first == "" {
		w.first = name
	}
	return stop
}

// stopAll ends all nodes before the test does.
func (w *world) stopAll() {
	for _, stop := range w.stops {
		stop()
	}
}

const session = "alice/trip"

func (w *world) put(region, oid string) {
	w.t.Helper()
	failed := make(chan error, 1)
	op := &crdt.Op{Kind: crdt.KindMsg, Session: session, OID: oid, User: "alice", Role: "user", Text: oid}
	if err := w.nodes[region].region.Submit(&wire.Put{Session: session, Ops: []*crdt.Op{op}, Fail: func(err error) { failed <- err }}); err != nil {
		w.t.Fatal(err)
	}
	w.until(oid+" is in "+region, func() bool { return w.has(region, oid) })
	select {
	case err := <-failed:
		w.t.Fatal(err)
	default:
	}
}

func (w *world) has(region, oid string) (found bool) {
	w.t.Helper()
	if err := w.nodes[region].region.View(session, func(st crdt.Store) { _, found = crdt.Lookup(st, oid) }); err != nil {
		w.t.Fatal(err)
	}
	return found
}

// until waits for events: whatever is awaited is looked at after each commit, and now and then.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-deadline.C:
			w.t.Fatalf("after %v it is not so that %s", patience, what)
		}
	}
}

// equal waits until all regions have the same cursors, and then holds their digests together.
func (w *world) equal() {
	w.t.Helper()
	for p := range uint8(crdt.Partitions) {
		w.until(fmt.Sprintf("partition %d is the same everywhere", p), func() bool {
			for _, a := range w.nodes {
				for _, b := range w.nodes {
					if !a.region.Cursors(p).Covers(b.region.Cursors(p)) {
						return false
					}
				}
			}
			return true
		})
		digests := map[uint64]bool{}
		for _, n := range w.nodes {
			d, err := n.region.Digest(p)
			if err != nil {
				w.t.Fatal(err)
			}
			digests[d] = true
		}
		if len(digests) != 1 {
			w.t.Errorf("partition %d: equal cursors, %d digests", p, len(digests))
		}
	}
}

func (w *world) safe(region, oid string) bool {
	n, safe := w.nodes[region], false
	if err := n.region.View(session, func(st crdt.Store) {
		id, _ := crdt.Lookup(st, oid)
		safe = n.pool.Reach(crdt.Dot{Origin: id.At, ID: id.By, Partition: crdt.PartitionOf(session), F: id.F}).Safe
	}); err != nil {
		w.t.Fatal(err)
	}
	return safe
}

// TestCutHealsAndIsRelayed: two regions that cannot reach each other still get everything, through the third; cut off
// from all, a region goes on by itself, and catches up when it is back.
func TestCutHealsAndIsRelayed(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := newWorld(t, "beijing", "shanghai", "guangzhou")
	w.put("beijing", "m1")
	w.until("m1 is everywhere", func() bool { return w.has("shanghai", "m1") && w.has("guangzhou", "m1") })
	w.until("m1 is safe", func() bool { return w.safe("beijing", "m1") })

	w.net.CutBoth("beijing", "guangzhou", memnet.Stall)
	w.put("beijing", "m2")
	w.put("guangzhou", "m3")
	w.until("m2 and m3 came through shanghai", func() bool { return w.has("guangzhou", "m2") && w.has("beijing", "m3") })

	w.net.CutBoth("beijing", "shanghai", memnet.Break)
	w.put("beijing", "m4")
	w.put("shanghai", "m5")
	if w.safe("beijing", "m4") {
		t.Error("safe in a region that is cut off")
	}
	w.net.CutBoth("beijing", "shanghai", memnet.Open)
	w.net.CutBoth("beijing", "guangzhou", memnet.Open)
	w.until("m4 is safe", func() bool { return w.safe("beijing", "m4") })
	w.equal()
}

// TestDiskLost: a region that comes back with an empty disk gets everything from the others, under a new incarnation.
func TestDiskLost(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := newWorld(t, "beijing")
	stop := w.start("shanghai", t.TempDir(), w.ring)
	w.put("shanghai", "m1")
	w.until("m1 is safe", func() bool { return w.safe("shanghai", "m1") })
	old := w.nodes["shanghai"].region.Self(0)
	stop()
	w.start("shanghai", t.TempDir(), w.ring)
	w.until("m1 is back", func() bool { return w.has("shanghai", "m1") })
	w.put("shanghai", "m2")
	if self := w.nodes["shanghai"].region.Self(0); self == old {
		t.Error("the incarnation did not change")
	}
	w.equal()
}

func TestStatus(t *testing.T) {
	w := newWorld(t, "beijing", "shanghai")
	w.put("beijing", "m1")
	w.until("m1 is safe", func() bool { return w.safe("beijing", "m1") })
	h := w.nodes["beijing"].handler(w.nodes["beijing"].serveStatus)
	get := func(path string) (int, string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		return rec.Code, rec.Body.String()
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "roam_region_batch_proposals"} {
		if code, body := get(path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	var s status
	if _, body := get("/v1/status"); json.Unmarshal([]byte(body), &s) != nil || len(s.Partitions) != crdt.Partitions ||
		!s.Ready || len(s.Replication.Regions) != 2 {
		t.Errorf("%s", body)
	}
}

func TestKeyRings(t *testing.T) {
	var b strings.Builder
	if err := Keygen(KeygenOptions{}, &b); err != nil {
		t.Fatal(err)
	}
	ring, err := parseKeyRing([]byte(b.String() + b.String()))
	if err != nil || len(ring) != 2 {
		t.Fatalf("%v, %v", ring, err)
	}
	if string(ring.derive("a")[0]) == string(ring.derive("b")[0]) || string(ring.derive("a")[0]) == string(ring[0]) {
		t.Error("one key serves two purposes")
	}
	for _, bad := range []string{"", "# only words\n", "abc\n", strings.Repeat("0", 62) + "\n"} {
		if _, err := parseKeyRing([]byte(bad)); err == nil || !strings.Contains(err.Error(), "roam keygen") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestOptionsAreChecked: what cannot work is refused before anything is opened, and the flag is named.
func TestOptionsAreChecked(t *testing.T) {
	good := ServeOptions{
		Region: "beijing", Node: "n1", BootstrapExpect: 1, Redis: "redis://127.0.0.1:6379", Auth: "dev",
		ClientAddr: anyPort, AdminAddr: anyPort, ClusterAddr: anyPort, PeerAddr: anyPort,
	}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for flag, spoil := range map[string]func(*ServeOptions){
		"--region":           func(o *ServeOptions) { o.Region = "Bei jing" },
		"--node":             func(o *ServeOptions) { o.Node = "" },
		"--bootstrap-expect": func(o *ServeOptions) { o.BootstrapExpect = 3 },
		"--client-addr":      func(o *ServeOptions) { o.ClientAddr = "8080" },
		"--auth dev":         func(o *ServeOptions) { o.ClientAddr = "0.0.0.0:8080" },
		"--auth-hs256-file":  func(o *ServeOptions) { o.Auth = "" },
		"--join":             func(o *ServeOptions) { o.Join = []string{"shanghai"} },
		"--redis":            func(o *ServeOptions) { o.Redis = "localhost" },
		"--advertise-url":    func(o *ServeOptions) { o.AdvertiseURL = "http://x" },
		"--otlp-endpoint":    func(o *ServeOptions) { o.OTLPEndpoint = "http://localhost" },
		"--trace-sample":     func(o *ServeOptions) { o.TraceSample = math.NaN() },
	} {
		o := good
		spoil(&o)
		if err := o.check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestGroupsOfOneLeader: a node that leads all groups of its region says of each what it numbers under; none is taken for another, whose
// region would then seem to have lost something.
func TestGroupsOfOneLeader(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := newWorld(t, "shanghai")
	w.tune = func(o *ServeOptions) { o.Groups = 16 }
	w.start("beijing", t.TempDir(), w.ring)
	w.put("beijing", "m1")
	w.put("shanghai", "m2")
	w.until("m1 and m2 are everywhere, and safe", func() bool { return w.has("shanghai", "m1") && w.has("beijing", "m2") && w.safe("beijing", "m1") })
	for p := range uint8(crdt.Partitions) {
		w.until("shanghai has told what it heard", func() bool {
			_, all := w.nodes["shanghai"].pool.Held(p)
			return all && w.nodes["beijing"].links.Numbers(w.nodes["shanghai"].region.Self(p), p)
		})
		if !w.nodes["shanghai"].links.Numbers(w.nodes["beijing"].region.Self(p), p) {
			t.Errorf("shanghai does not know that partition %d is numbered under %s", p, w.nodes["beijing"].region.Self(p))
		}
	}
	all, err := w.nodes["beijing"].reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "roam_region_renewed_total" && f.GetMetric()[0].GetCounter().GetValue() > 0 {
			t.Errorf("beijing took it that it had lost something: %v", f)
		}
	}
}
