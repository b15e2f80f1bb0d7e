package region

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

var errInjected = errors.New("injected")

// faultPuts is how many puts a run on a disk with faults tries.
const faultPuts = 120

// onDisk runs a region that takes puts, flushes and cuts its log, until it fails or all are acknowledged. It returns what was
// acknowledged, by session, and why the region ended.
func onDisk(t *testing.T, cfg Config, rng *rand.Rand) (map[string]map[string]bool, error) {
	t.Helper()
	acked := map[string]map[string]bool{}
	r, err := New(cfg)
	if err != nil {
		return acked, err
	}
	events := make(chan wire.Event, faultPuts)
	r.Watch(func(evs []wire.Event) {
		for _, e := range evs {
			if e.Tag != 0 {
				events <- e
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	end := func(err error) (map[string]map[string]bool, error) {
		cancel()
		for len(events) > 0 {
			note(acked, <-events)
		}
		return acked, errors.Join(err, r.Close())
	}
	select {
	case <-r.Ready():
	case err := <-done:
		return end(err)
	}
	for i := range faultPuts {
		session := fmt.Sprintf("alice/%d", rng.IntN(5))
		op := msg(fmt.Sprintf("%016x", rng.Uint64()), strings.Repeat("x", 1+rng.IntN(2000)))
		op.Session = session
		failed := make(chan error, 1)
		if err := r.Submit(&wire.Put{Session: session, Ops: []*crdt.Op{op}, Tag: uint64(i + 1), Fail: func(err error) { failed <- err }}); err != nil {
			t.Fatal(err)
		}
		if i%20 == 19 {
			r.all()[0].raft.Snapshot() // goes on while more is put
		}
		select {
		case e := <-events:
			note(acked, e)
		case <-failed:
		case err := <-done:
			return end(err)
		}
	}
	cancel()
	return end(<-done)
}

func note(acked map[string]map[string]bool, e wire.Event) {
	if acked[e.Session] == nil {
		acked[e.Session] = map[string]bool{}
	}
	acked[e.Session][e.Placed[0].OID] = true
}

// failingProcess is set in a process in which nodes fail.
const failingProcess = "ROAM_TEST_FAILING"

// inProcessOfItsOwn runs the test in another process, since a node that has failed may leave goroutines behind; there it returns true.
func inProcessOfItsOwn(t *testing.T) bool {
	t.Helper()
	if os.Getenv(failingProcess) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), failingProcess+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return false
}

// TestDiskErrors: whichever change of the disk fails, once or from then on, the node ends and says what it was, and has what it
// acknowledged when it starts on what is left.
func TestDiskErrors(t *testing.T) {
	t.Parallel() // it waits, mostly
	if !inProcessOfItsOwn(t) {
		return
	}
	for _, engine := range []string{engineWAL, enginePebble} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			testDiskErrors(t, engine)
		})
	}
}

func testDiskErrors(t *testing.T, engine string) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	sound := newFaultDisk()
	cfg := sound.config()
	cfg.engine = engine
	if acked, err := onDisk(t, cfg, rng); err != nil || len(acked) == 0 {
		t.Fatalf("without faults: %v, %d sessions", err, len(acked))
	}
	all := int(sound.ops.Load())
	t.Logf("%d changes of the disk", all)
	const tries = 10
	for try := range tries {
		at := int64(1 + (try*all+rng.IntN(all))/tries)
		d := newFaultDisk()
		var hit atomic.Pointer[string]
		once, why := rng.IntN(2) == 0, error(errInjected)
		if rng.IntN(2) == 0 {
			why = syscall.ENOSPC
		}
		d.before = func(n int64, op string) error {
			if n < at || n > at && once {
				return nil
			}
			hit.CompareAndSwap(nil, &op)
			return fmt.Errorf("%s: %w", op, why)
		}
		cfg := d.config()
		cfg.engine = engine
		acked, err := onDisk(t, cfg, rng)
		if hit.Load() == nil {
			continue // this run needed fewer
		}
		if err == nil || !strings.Contains(err.Error(), why.Error()) {
			t.Fatalf("change %d, of %s: the node ended with %v", at, *hit.Load(), err)
		}
		t.Logf("change %d, of %s, once %v: %v", at, *hit.Load(), once, err)
		left := d.crash(rng)
		cfg = left.config()
		cfg.engine = engine
		s := startWith(t, cfg)
		checkAcked(t, s, acked)
		checkFeeds(t, s)
		s.stop()
	}
}
