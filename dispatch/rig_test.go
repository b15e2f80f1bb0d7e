package dispatch_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch"
	"github.com/roamsync/roam/dispatch/internal/redistest"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/dispatch/worker"
)

func TestMain(m *testing.M) {
	logging.Disable() // every dial to a killed Redis would be a line
	goleak.VerifyTestMain(m)
}

// rig is a region with its Redis, leader and workers.
type rig struct {
	*region
	t     *testing.T
	redis *redistest.Server
	log   *slog.Logger
}

func each(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		t.Parallel()
		log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
		test(t, &rig{region: newRegion(t), t: t, redis: s, log: log})
	})
}

func (r *rig) config() dispatch.Config {
	return dispatch.Config{
		Region: regionName, Commits: r.region, Redis: r.redis.URL(), Now: r.now, Logger: r.log.With("side", "leader"),
		Tick: 5 * time.Millisecond, Block: 50 * time.Millisecond, CheckAfter: 50 * time.Millisecond, PollWorkers: 20 * time.Millisecond,
	}
}

// lead starts the leader's side; the result ends it and waits.
func (r *rig) lead() (stop func()) { return r.leadWith(r.config()) }

func (r *rig) leadWith(cfg dispatch.Config) (stop func()) {
	r.t.Helper()
	d, err := dispatch.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.background(d.Run)
}

func (r *rig) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			r.t.Errorf("run: %v", err)
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	r.t.Cleanup(stop)
	return stop
}

// work starts a worker and waits until it is ready, unless Redis is down.
func (r *rig) work(model llm.LLM, change ...func(*worker.Config)) (stop func()) {
	r.t.Helper()
	w, stop := r.workLater(model, change...)
	select {
	case <-w.Ready():
	case <-time.After(awaitLimit):
		r.t.Fatal("worker is not ready")
	}
	return stop
}

func (r *rig) workLater(model llm.LLM, change ...func(*worker.Config)) (*worker.Worker, func()) {
	r.t.Helper()
	cfg := worker.Config{
		Redis: r.redis.URL(), Region: regionName, Models: []string{"echo"}, LLM: model, Logger: r.log.With("side", "worker"),
		Grace: -1, Announce: 100 * time.Millisecond, Resend: 50 * time.Millisecond, Silence: 200 * time.Millisecond,
		Block: 50 * time.Millisecond, Registerer: prometheus.NewRegistry(),
	}
	for _, c := range change {
		c(&cfg)
	}
	w, err := worker.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return w, r.background(w.Run)
}

// ask puts a question to models and returns the answers' ids.
func (r *rig) ask(session, oid, text string, models ...string) []string {
	r.t.Helper()
	return r.askOp(session, crdt.Op{Kind: crdt.KindMsg, OID: oid, Role: "user", Text: text, Models: models})
}

func (r *rig) askOp(session string, op crdt.Op) []string {
	r.t.Helper()
	r.put(session, op)
	var runs []string
	for i, m := range op.Models {
		runs = append(runs, crdt.RunID(op.OID, m, string(rune('0'+i))))
	}
	return runs
}

// gate answers as echo does, but stops before a word until it is opened.
type gate struct {
	at        int
	reached   chan string // gets the prompt
	open      chan struct{}
	cancelled chan string // gets the prompt of an answer that was given up at the gate
}

func newGate(at int) *gate {
	return &gate{at: at, reached: make(chan string, 64), open: make(chan struct{}), cancelled: make(chan string, 64)}
}

func (g *gate) Answer(ctx context.Context, job llm.Job, emit func(string) error) (llm.Result, error) {
	for i, word := range strings.Fields(job.Prompt) {
		if i == g.at {
			g.reached <- job.Prompt
			select {
			case <-g.open:
			case <-ctx.Done():
				g.cancelled <- job.Prompt
				return llm.Result{}, ctx.Err()
			}
		}
		if i > 0 {
			word = " " + word
		}
		if err := emit(word); err != nil {
			return llm.Result{}, err
		}
	}
	return llm.Result{Fin: "end"}, nil
}

func (r *rig) receive(what string, c <-chan string) string {
	r.t.Helper()
	select {
	case s := <-c:
		return s
	case <-time.After(awaitLimit):
		r.t.Fatalf("%s: not within %v\n%s", what, awaitLimit, r.dump())
		return ""
	}
}

// awaitHeld waits until a part of an answer is committed.
func (r *rig) awaitHeld(session, run, part string) {
	r.t.Helper()
	r.await("held part of "+run, func() bool { return r.text(session, run) == part })
}

var fast = llm.Echo{TokenDelay: -1}
