package bubble

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsync/roam/internal/app"
	"github.com/roamsync/roam/internal/memnet"
)

const (
	// between is the one-way delay between regions, and from a client to a node; within is that inside a region.
	between = 10 * time.Millisecond
	within  = 300 * time.Microsecond
	// patience bounds what a test waits for, in fake time.
	patience = 3 * time.Minute
)

// world is some regions and their clients, in a bubble.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	net     *memnet.Network
	traffic traffic
	ring    app.KeyRing
	log     *slog.Logger
	regions []*site
	devices []*device
	ending  sync.WaitGroup      // lives that have crashed and not ended yet
	doctor  func([]byte) []byte // of new devices

	mu    sync.Mutex // guards what follows
	acked []ack
	wrong []string
}

// site is a region.
type site struct {
	w       *world
	name    string
	number  int
	nodes   []*node
	redis   *redis
	trouble atomic.Int64 // until when something is wrong in it, in ns since 1970; devices read it
}

// ack is an op that a client was told is stored.
type ack struct {
	session, region, oid, kind, key, text string
	asks                                  bool
	after                                 int64 // of a msg: the highest seq that its user was shown when it was put
}

// plan names regions and how many nodes each has.
type plan []struct {
	name  string
	nodes int
}

// inBubble runs a test with regions that are up, and checks everything in the end.
func inBubble(t *testing.T, seed uint64, p plan, test func(w *world)) {
	t.Helper()
	report(t, broken(t, seed, p, test))
}

// report has a test fail for what is broken.
func report(t *testing.T, found []string) {
	t.Helper()
	for _, fault := range found[:min(len(found), mostFaults)] {
		t.Error(fault)
	}
	if len(found) > mostFaults {
		t.Errorf("and %d more", len(found)-mostFaults)
	}
}

// broken runs a test with regions that are up, and returns the promises that they have broken.
func broken(t *testing.T, seed uint64, p plan, test func(w *world)) (found []string) {
	t.Helper()
	return brokenIn(t, seed, p, func(*world) {}, test)
}

// brokenIn is broken with a world that was prepared before its nodes start.
func brokenIn(t *testing.T, seed uint64, p plan, prepare, test func(w *world)) (found []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		t.Cleanup(w.close)
		for _, r := range p {
			w.addRegion(r.name, r.nodes)
		}
		prepare(w)
		for _, s := range w.regions {
			for _, n := range s.nodes {
				n.start()
			}
		}
		w.await("all regions take clients", w.ready)
		test(w)
		found = w.finish()
	})
	return found
}

func newWorld(t *testing.T, seed uint64) *world {
	network, err := memnet.New(memnet.Config{Delay: between, Dial: nobody})
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(fmt.Append(nil, seed))
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), net: network, ring: app.KeyRing{key[:]},
		log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func nobody(_ context.Context, addr string) (net.Conn, error) {
	return nil, fmt.Errorf("dial %s: connection refused", addr)
}

func (w *world) addRegion(name string, nodes int) {
	s := &site{w: w, name: name, number: len(w.regions) + 1}
	s.redis = newRedis(s)
	w.regions = append(w.regions, s)
	for i := range nodes {
		s.nodes = append(s.nodes, newNode(s, i+1, nodes))
	}
	for _, n := range s.nodes {
		for _, other := range append([]string{s.redis.place}, s.places()...) {
			w.net.SetDelay(n.place, other, within)
			w.net.SetDelay(other, n.place, within)
		}
	}
}

func (s *site) places() (all []string) {
	for _, n := range s.nodes {
		all = append(all, n.place)
	}
	return all
}

func (w *world) region(name string) *site {
	for _, s := range w.regions {
		if s.name == name {
			return s
		}
	}
	panic("no region " + name)
}

// cut cuts what goes from one region to another, between all of their nodes; memnet.Open heals it.
func (w *world) cut(from, to *site, c memnet.Cut) {
	for _, a := range from.places() {
		for _, b := range to.places() {
			w.net.Cut(a, b, c)
		}
	}
}

// cutBoth is cut both ways.
func (w *world) cutBoth(a, b string, c memnet.Cut) {
	w.cut(w.region(a), w.region(b), c)
	w.cut(w.region(b), w.region(a), c)
}

// ill notes that something is wrong in a region, until some time after it has ended.
func (s *site) ill(d time.Duration) {
	s.trouble.Store(max(s.trouble.Load(), time.Now().Add(d).UnixNano()))
}

// violate notes a broken promise.
func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// await waits, in fake time.
func (w *world) await(what string, so func() bool) {
	w.t.Helper()
	why := func() string {
		if so() {
			return ""
		}
		return "it is not so"
	}
	if left := w.waitFor(why); left != "" {
		w.t.Fatalf("after %s it is not so that %s", patience, what)
	}
}

// pass lets fake time pass.
func pass(d time.Duration) { time.Sleep(d) }

const look = 50 * time.Millisecond

// waitFor waits until there is nothing in the way any more, and returns what is if that lasts.
func (w *world) waitFor(why func() string) (left string) {
	for end := time.Now().Add(patience); ; time.Sleep(look) {
		if left = why(); left == "" || time.Now().After(end) {
			return left
		}
	}
}

func (w *world) ready() bool {
	for _, s := range w.regions {
		for _, n := range s.nodes {
			if n.life == nil || !n.life.serving.Load() {
				return false
			}
		}
	}
	return true
}

// operator is an HTTP client that reaches nodes.
func (w *world) operator() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return w.net.DialFunc("operator")(ctx, addr)
		}}}
}

// close ends everything.
func (w *world) close() {
	for _, d := range w.devices {
		d.stop()
	}
	w.devices = nil
	for _, s := range w.regions {
		for _, n := range s.nodes {
			n.crash()
		}
	}
	w.ending.Wait()
	for _, s := range w.regions {
		s.redis.close()
	}
	w.net.Close()
	time.Sleep(time.Minute) // memberlist does not wait for its probes: they end by their time-outs
}
