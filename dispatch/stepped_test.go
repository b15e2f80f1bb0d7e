package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/dispatch/worker"
	"github.com/roamsync/roam/wire"
)

// stage is a region, its Redis, a leader and workers in one goroutine, in a time of its own.
type stage struct {
	*rig
	mini  *miniredis.Miniredis
	clock time.Time     // the machines'
	ahead time.Duration // by which the region's clock is
	start time.Time
	away  bool     // Redis cannot be reached
	sent  []string // all that went to Redis, in order
	conns []net.Conn
	names int

	abroad abroad
	lead   *dispatch.Lead
	hands  []*hand
	models map[*worker.Answer][]string // what is still to be said
}

// hand is a worker with its models.
type hand struct {
	*worker.Hand
	answers []*worker.Answer
}

// step is how far time goes between two rounds of a stage.
const step = 20 * time.Millisecond

func newStage(t *testing.T) *stage {
	s := &stage{
		rig: &rig{region: newRegion(t), t: t}, mini: miniredis.NewMiniRedis(),
		start: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), models: map[*worker.Answer][]string{},
	}
	s.clock = s.start
	s.region.time = func() time.Time { return s.clock.Add(s.ahead) }
	s.mini.SetTime(s.clock)
	s.mini.ClockTTL(true)
	s.begin()
	return s
}

// begin begins to lead.
func (s *stage) begin() {
	s.t.Helper()
	d, err := dispatch.New(dispatch.Config{
		Region: regionName, Commits: s.region, Redis: "redis://stage", Now: s.now, Machine: s.machine, Dial: s.dial("lead"), Wait: s.wait, Draw: least,
		Abroad: &s.abroad, TakeoverAfter: takeoverAfter,
	})
	if err == nil {
		s.lead, err = d.Lead(context.Background())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// hire adds a worker.
func (s *stage) hire() *hand {
	s.t.Helper()
	w, err := worker.New(worker.Config{
		Region: regionName, Models: []string{"echo", "two"}, LLM: fast, Redis: "redis://stage", Dial: s.dial("work"),
		Now: s.machine, Draw: least, Concurrency: 2, Nonce: func() string {
			s.names++
			return fmt.Sprint("n", s.names)
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	h, err := w.Hand(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	s.hands = append(s.hands, &hand{Hand: h})
	return s.hands[len(s.hands)-1]
}

func (s *stage) close() {
	s.lead.Close()
	for _, h := range s.hands {
		h.Close()
	}
	s.mini.Close()
}

func (s *stage) machine() time.Time { return s.clock }

func least(int64) int64 { return 0 }

func (s *stage) wait(_ context.Context, d time.Duration) bool {
	s.clock = s.clock.Add(d)
	return true
}

func (s *stage) dial(who string) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		if s.away {
			return nil, errors.New("nobody is there")
		}
		c, err := s.mini.Dial()
		s.conns = append(s.conns, c)
		return &recorded{Conn: c, s: s, who: who}, err
	}
}

// part ends the connections to Redis, and lets nobody have a new one.
func (s *stage) part() {
	s.away = true
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

// recorded writes down what is sent.
type recorded struct {
	net.Conn
	s   *stage
	who string
}

func (r *recorded) Write(b []byte) (int, error) {
	r.s.sent = append(r.s.sent, fmt.Sprintf("%v %s %q", r.s.clock.Sub(r.s.start), r.who, b))
	return r.Conn.Write(b)
}

// round lets time pass and everybody do what there is to do. Models say a word each.
func (s *stage) round() {
	s.t.Helper()
	ctx := context.Background()
	s.clock = s.clock.Add(step)
	s.mini.SetTime(s.clock)
	if s.clock.Sub(s.start)%time.Second == 0 {
		s.lead.Poll(ctx)
	}
	if s.clock.Sub(s.start)%dispatch.SweepEvery == 0 {
		s.lead.Sweep(ctx)
	}
	tick := s.clock.Sub(s.start)%(250*time.Millisecond) < step
	if tick || s.lead.Pending() {
		s.must(s.lead.Round(ctx, tick))
	}
	if _, err := s.lead.Read(ctx); err != nil && !(s.away && errors.Is(err, dispatch.ErrRedis)) {
		s.t.Fatalf("read: %v", err)
	}
	for _, h := range s.hands {
		started, err := h.Step(s.clock)
		if err != nil && !s.away {
			s.t.Logf("step at %v: %v", s.clock.Sub(s.start), err)
		}
		for _, a := range started {
			h.answers, s.models[a] = append(h.answers, a), strings.Fields(a.Job.Prompt)
		}
		s.speak(h)
	}
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) speak(h *hand) {
	h.answers = slices.DeleteFunc(h.answers, (*worker.Answer).Over)
	for _, a := range h.answers {
		switch words := s.models[a]; {
		case words == nil:
		case len(words) == 1:
			s.must(h.Say(a, words[0]))
			h.End(a, llm.Result{Fin: "end"}, nil)
			s.models[a] = nil
		default:
			s.must(h.Say(a, words[0]+" "))
			s.models[a] = words[1:]
		}
	}
}

// until runs rounds until cond holds; no test needs more than two minutes of its time.
func (s *stage) until(what string, cond func() bool) {
	s.t.Helper()
	for end := s.clock.Add(2 * time.Minute); !cond(); s.round() {
		if s.clock.After(end) {
			s.t.Fatalf("%s: not by then\n%s", what, s.dump())
		}
	}
}

// asked puts questions in several sessions at once, when the workers are known, so that the order in which they are
// looked at would be seen in Redis. It returns the answers by session.
func (s *stage) asked() map[string][]string {
	for range 60 {
		s.round()
	}
	runs := map[string][]string{}
	for i := range 6 {
		session := fmt.Sprint("u/", i)
		for _, key := range []string{"model", "temperature", "system"} {
			s.put(session, crdt.Op{Kind: crdt.KindSet, OID: "set-" + key, Key: key, Value: []byte(`"two"`)})
		}
		runs[session] = s.ask(session, "m1", prompt, []string{"", "echo", "two"}[i%3])
	}
	runs["u/0"] = append(runs["u/0"], s.ask("u/0", "m2", prompt, "echo", "two")...)
	return runs
}

func (s *stage) answered(runs map[string][]string) {
	s.t.Helper()
	s.until("all answers", func() bool {
		for session, all := range runs {
			for _, run := range all {
				if !s.slot(session, run).State.Closed() {
					return false
				}
			}
		}
		return true
	})
	for session, all := range runs {
		for _, run := range all {
			s.awaitAnswer(session, run, answer) // it compares
		}
	}
}

// midway waits until a worker is in the middle of its first answers.
func (s *stage) midway() {
	s.t.Helper()
	s.until("the middle of an answer", func() bool {
		return s.at(func(op *crdt.Op) bool { return op.Kind == crdt.KindChunk && op.Off > 5 }) >= 0
	})
}

// play plays a scene, and checks that nobody waited for the machine's clock: it would have gone on in the bubble.
func play(t *testing.T, scene func(s *stage)) (sent []string) {
	synctest.Test(t, func(t *testing.T) {
		before := time.Now()
		s := newStage(t)
		scene(s)
		s.close()
		if d := time.Since(before); d != 0 {
			t.Errorf("somebody waited for %v", d)
		}
		sent = s.sent
	})
	return sent
}

// scenes are what may happen while answers are made.
var scenes = map[string]func(s *stage){
	"nothing happens": func(s *stage) {
		s.hire()
		s.answered(s.asked())
	},
	"redis is wiped": func(s *stage) {
		s.hire()
		runs := s.asked()
		s.midway()
		s.mini.FlushAll()
		s.answered(runs)
	},
	"redis is away": func(s *stage) {
		s.hire()
		runs := s.asked()
		s.midway()
		s.part()
		for range 200 {
			s.round()
		}
		s.away = false
		s.answered(runs)
	},
	"a worker dies": func(s *stage) {
		dead := s.hire()
		runs := s.asked()
		s.midway()
		dead.Close()
		s.hands = nil
		s.hire()
		s.hire()
		s.answered(runs)
	},
	"the leader changes": func(s *stage) {
		s.hire()
		runs := s.asked()
		s.midway()
		s.lead.Close()
		for range 100 {
			s.clock = s.clock.Add(step)
			_, err := s.hands[0].Step(s.clock)
			s.must(err)
		}
		s.begin()
		s.answered(runs)
	},
	"sessions are forgotten": func(s *stage) {
		s.hire()
		runs := s.asked()
		s.midway()
		for _, session := range []string{"u/0", "u/1", "u/5"} {
			s.put(session, crdt.Op{Kind: crdt.KindForget, OID: "f"})
			delete(runs, session)
		}
		s.answered(runs)
		s.until("the end of all work", func() bool {
			left := len(s.hands[0].answers)
			for _, model := range []string{"", "echo", "two"} {
				jobs, _ := s.mini.Stream("roam:{" + regionName + "}:jobs:" + model) // an error: there never was one
				left += len(jobs)
			}
			return left == 0
		})
	},
	"the region is unavailable now and then": func(s *stage) {
		s.trouble = func(n int) (before, after error) {
			if n%3 == 1 {
				return nil, fmt.Errorf("leadership lost: %w", wire.ErrUnavailable) // committed all the same
			}
			return nil, nil
		}
		s.hire()
		s.answered(s.asked())
	},
}

// TestStepped: a leader and a worker in one goroutine and a time of their own bring answers, whatever happens to
// Redis, the leader, the region and the workers; and the same scene twice sends the same bytes in the same order.
func TestStepped(t *testing.T) {
	for name, scene := range scenes {
		t.Run(name, func(t *testing.T) {
			first, second := play(t, scene), play(t, scene)
			for i := range min(len(first), len(second)) {
				if first[i] != second[i] {
					t.Fatalf("at %d, first\n%s\nthen\n%s", i, first[i], second[i])
				}
			}
			if len(first) != len(second) || len(first) == 0 {
				t.Errorf("%d, then %d were sent", len(first), len(second))
			}
		})
	}
}
