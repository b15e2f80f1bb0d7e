package region

import (
	"context"
	"errors"
	"flag"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// waiting is how many of the tests of regions of one node run side by side: they wait, mostly, for their disks and to lead. Those of several nodes have
// the machine for themselves, lest they lose their leaders. The command line says otherwise with -parallel.
const waiting = "4"

// patience is for what has to come about in the end: on a machine that does much else, it takes its time.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", waiting); err != nil {
		panic(err)
	}
	if os.Getenv(failingProcess) != "" {
		os.Exit(m.Run()) // nodes whose disk fails leave what hangs to the end of their process
	}
	// Pebble leaves a ticker behind when it refuses to open a directory; a process that meets that ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"))
}

// started is a region that runs until the test ends, or until stop.
type started struct {
	*Region
	events chan wire.Event
	stop   func()
	end    func() error // stop, of one that is to fail
}

func start(t testing.TB, region, dir string) *started {
	t.Helper()
	return startWith(t, Config{Region: region, Node: "n1", Dir: dir})
}

func startWith(t testing.TB, cfg Config) *started {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &started{Region: r, events: make(chan wire.Event, 10_000)}
	r.Watch(func(evs []wire.Event) {
		for _, e := range evs {
			s.events <- e
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	s.end = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return errors.Join(<-done, r.Close())
	}
	s.stop = func() {
		if err := s.end(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(s.stop)
	<-r.Ready()
	return s
}

var tags atomic.Uint64 // of puts

func (s *started) put(t testing.TB, session string, ops ...*crdt.Op) wire.Event {
	t.Helper()
	tag, failed := tags.Add(1), make(chan error, 1)
	if err := s.Submit(&wire.Put{Session: session, Ops: ops, Tag: tag, Fail: func(err error) { failed <- err }}); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case e := <-s.events:
			if e.Tag == tag {
				return e
			}
		case err := <-failed:
			t.Fatal(err)
		}
	}
}

func msg(oid, text string) *crdt.Op {
	return &crdt.Op{Kind: crdt.KindMsg, Session: "alice/trip", OID: oid, User: "alice", Device: "phone", Role: "user", Text: text}
}

func TestPutIsKeptOverARestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "beijing", dir)
	e := s.put(t, "alice/trip", msg("a", "one"), msg("b", "two"))
	if e.Refused != nil || len(e.Placed) != 2 || e.Placed[1].Place.Seq != 2 || e.Placed[1].Dot.F != 2 {
		t.Fatalf("got %+v", e)
	}
	self := s.Self()
	s.stop()
	s = start(t, "beijing", dir)
	if s.Self() != self {
		t.Errorf("incarnation changed from %s to %s", self, s.Self())
	}
	if e := s.put(t, "alice/trip", msg("a", "one")); len(e.Changes) != 0 || e.Placed[0].Place.Seq != 1 {
		t.Errorf("the retry is %+v", e)
	}
	if e := s.put(t, "alice/trip", msg("a", "other"), msg("c", "three")); !errors.Is(e.Refused, crdt.ErrConflict) {
		t.Errorf("the conflict is %v", e.Refused)
	}
	if e := s.put(t, "alice/trip", msg("c", "three")); e.Placed[0].Place.Seq != 3 {
		t.Errorf("what came with a conflict was kept: %+v", e.Placed)
	}
}

// Self is what the first group issues as.
func (s *started) Self() crdt.Origin { return s.Region.Self(0) }

// Answer commits in the first group.
func (s *started) Answer(ctx context.Context, ops []*crdt.Op, position string) ([]crdt.Held, error) {
	return s.Commits(0).Answer(ctx, ops, position)
}

// Open is of the first group.
func (s *started) Open() ([]wire.OpenRun, string, error) { return s.Commits(0).Open() }
