package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKillAfterOK kills Beijing right after an ok, several times, and looks for what it had acknowledged.
func TestKillAfterOK(t *testing.T) {
	t.Parallel()
	const session, rounds = "anna/kill", 4
	list := sites(t, "beijing", "shanghai")
	must(t, startAll(list))
	beijing, shanghai := list[0], list[1]
	watch := user(t, "anna", "watch")
	must(t, watch.connect(shanghai, session))
	d := user(t, "anna", "phone")
	for r := range rounds {
		must(t, d.connect(beijing, session))
		for i := range r + 1 { // the last is acknowledged and at once the node is dead
			must(t, d.put(session, msg(fmt.Sprintf("r%d-m%d", r, i), "kept")))
		}
		_, err := d.sendPut(session, msg(fmt.Sprintf("r%d-open", r), "perhaps")) // may or may not be committed
		must(t, err)
		beijing.crash()
		d.drop()
		must(t, beijing.restart())
		must(t, d.connect(beijing, session))
		must(t, d.put(session, msg(fmt.Sprintf("r%d-open", r), "perhaps")))
		d.drop()
	}
	must(t, d.connect(beijing, session))
	text := words(80)
	must(t, d.put(session, ask("q", text)))
	must(t, d.answer(session, "q", len(text)/4))
	beijing.crash()
	d.drop()
	must(t, beijing.restart())
	must(t, d.connect(beijing, session))
	must(t, d.finished(session, "q"))
	wants(t, d.view(session), "q", text)
	agree(t, session, func(v *view) bool { return v.Answered("q") }, d, watch)
	if n, want := len(d.view(session).Entries), rounds*(rounds+1)/2+rounds+2; n != want {
		t.Errorf("%d entries, want %d:\n%s", n, want, d.view(session))
	}
	sameEverywhere(t, d, session, beijing, shanghai)
}

// cutLength is how long the regions are apart.
func cutLength(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("E2E_CUT")
	if s == "" {
		return 15 * time.Second
	}
	d, err := time.ParseDuration(s)
	must(t, err)
	return d
}

// TestCutHeals stops Beijing while Shanghai starts, takes the same question and goes on, and then lets it go on.
func TestCutHeals(t *testing.T) {
	t.Parallel()
	const session = "bao/cut"
	list := sites(t, "beijing", "shanghai")
	beijing, shanghai := list[0], list[1]
	beijing.join = shanghai.cluster
	must(t, beijing.start())
	text := words(12)
	a, b := user(t, "bao", "phone"), user(t, "bao", "laptop")
	must(t, a.connect(beijing, session))
	must(t, a.put(session, msg("hello", "before")))
	must(t, a.put(session, ask("q", text)))
	must(t, a.finished(session, "q"))
	beijing.freeze()

	must(t, shanghai.start())
	must(t, b.connect(shanghai, session))
	must(t, b.put(session, ask("q", text))) // the same question, in a region that has heard of nothing
	must(t, b.finished(session, "q"))
	puts := 0
	for end := time.Now().Add(cutLength(t)); time.Now().Before(end); puts++ {
		must(t, b.put(session, msg(fmt.Sprintf("m%d", puts), "meanwhile")))
		must(t, b.listen(time.After(100*time.Millisecond)))
	}
	beijing.thaw()
	a.drop() // a client that heard nothing for long comes back as well
	must(t, a.connect(beijing, session))
	agree(t, session, func(v *view) bool { return len(v.Entries) >= puts+3 }, a, b)
	wants(t, a.view(session), "q", text)
	if n := len(a.view(session).Entries); n != puts+3 {
		t.Errorf("%d entries, want %d", n, puts+3)
	}
	sameEverywhere(t, a, session, beijing, shanghai)
	t.Logf("%d puts during a cut of %v", puts, cutLength(t))
}

// TestTwoDevices has two devices of one user write at once, each coming and going between the regions.
func TestTwoDevices(t *testing.T) {
	t.Parallel()
	beijing, shanghai := sharedSites(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("E2E_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		must(t, err)
	}
	t.Logf("seed %d (E2E_SEED)", seed)
	session := unique("carl/both")
	var movers []*mover
	done := make(chan error)
	for i, name := range []string{"phone", "laptop"} {
		m := &mover{device: user(t, "carl", name), session: session, sites: []*site{beijing, shanghai},
			rnd: rand.New(rand.NewPCG(seed, uint64(i))), outbox: map[string]obj{}}
		movers = append(movers, m)
		go func() { done <- m.roam(i, 50) }()
	}
	must(t, errors.Join(<-done, <-done))
	a, b := movers[0], movers[1]
	want := slices.Concat(a.put, b.put)
	agree(t, session, func(v *view) bool {
		for _, oid := range want {
			if v.Entries[oid] == nil || strings.HasPrefix(oid, "ask") && !v.Answered(oid) {
				return false
			}
		}
		return true
	}, a.device, b.device)
	v := a.view(session)
	for _, oid := range want {
		if strings.HasPrefix(oid, "ask") {
			wants(t, v, oid, v.Entries[oid].Shown)
		}
	}
	sameEverywhere(t, a.device, session, beijing, shanghai)
	t.Logf("%d entries; reconnected %d and %d times", len(v.Entries), a.moves, b.moves)
}

// mover is a device that writes and moves at random, and keeps what is not acknowledged.
type mover struct {
	*device
	session string
	sites   []*site
	rnd     *rand.Rand
	outbox  map[string]obj
	put     []string // oids of all messages
	moves   int
}

// roam writes n ops, starting in the i-th region.
func (m *mover) roam(i, n int) error {
	if err := m.connect(m.sites[i], m.session); err != nil {
		return err
	}
	for k := range n {
		op, oid := m.op(k)
		m.outbox[oid] = op
		if err := m.write(oid); err != nil {
			return err
		}
		if m.rnd.IntN(5) == 0 {
			if err := m.move(); err != nil {
				return err
			}
		}
		if err := m.listen(time.After(time.Duration(m.rnd.IntN(30)) * time.Millisecond)); err != nil {
			return err
		}
	}
	return m.move()
}

// op makes an op, of an oid that says what it is.
func (m *mover) op(k int) (obj, string) {
	switch m.rnd.IntN(6) {
	case 0:
		oid := fmt.Sprintf("ask-%s-%d", m.name, k)
		m.put = append(m.put, oid)
		return ask(oid, words(1+m.rnd.IntN(12))), oid
	case 1:
		oid := fmt.Sprintf("set-%s-%d", m.name, k)
		return obj{"k": "set", "oid": oid, "key": "title", "v": oid}, oid
	default:
		oid := fmt.Sprintf("msg-%s-%d", m.name, k)
		m.put = append(m.put, oid)
		return msg(oid, "text of "+oid), oid
	}
}

// write puts an op; now and then it does not wait for the ok.
func (m *mover) write(oid string) error {
	id, err := m.sendPut(m.session, m.outbox[oid])
	if err != nil || m.rnd.IntN(4) == 0 {
		return err
	}
	if err := m.answered(id); err != nil {
		return err
	}
	delete(m.outbox, oid)
	return nil
}

// move drops the connection, comes back with its cur somewhere, and puts again what was not acknowledged.
func (m *mover) move() error {
	m.drop()
	m.moves++
	if err := m.connect(m.sites[m.rnd.IntN(2)], m.session); err != nil {
		return err
	}
	for _, oid := range slices.Sorted(maps.Keys(m.outbox)) {
		if err := m.device.put(m.session, m.outbox[oid]); err != nil {
			return err
		}
		delete(m.outbox, oid)
	}
	return nil
}

// TestRedisDownAtStart: a region takes messages without Redis, and answers once it is there.
func TestRedisDownAtStart(t *testing.T) {
	t.Parallel()
	const session = "dora/late"
	s := sites(t, "beijing")[0]
	must(t, s.startServe())
	must(t, s.ready())
	must(t, s.startWorker())
	d := user(t, "dora", "phone")
	must(t, d.connect(s, session))
	must(t, d.put(session, ask("q", words(9))))
	must(t, d.until("the slot is shown", func() bool { return len(d.view(session).Answers("q")) == 1 }))
	must(t, s.startRedis())
	must(t, d.finished(session, "q"))
	wants(t, d.view(session), "q", words(9))
	sameEverywhere(t, d, session, s)
}

// TestRedisLosesEverything kills Redis in the middle of an answer and starts it again with nothing in it.
func TestRedisLosesEverything(t *testing.T) {
	t.Parallel()
	const session = "emil/redis"
	s := sites(t, "beijing")[0]
	must(t, s.start())
	text := words(120)
	d := user(t, "emil", "phone")
	must(t, d.connect(s, session))
	must(t, d.put(session, ask("q", text)))
	must(t, d.answer(session, "q", len(text)/4))
	s.redis.kill()
	must(t, d.put(session, ask("q2", words(7)))) // meanwhile the region takes what comes
	must(t, d.listen(time.After(500*time.Millisecond)))
	must(t, s.startRedis())
	must(t, d.finished(session, "q"))
	must(t, d.finished(session, "q2"))
	wants(t, d.view(session), "q", text)
	wants(t, d.view(session), "q2", words(7))
	sameEverywhere(t, d, session, s)
}

// TestWorkerDies kills the worker in the middle of an answer; another one finishes it.
func TestWorkerDies(t *testing.T) {
	t.Parallel()
	const session = "finn/worker"
	s := sites(t, "beijing")[0]
	must(t, s.start())
	text := words(60)
	d := user(t, "finn", "phone")
	must(t, d.connect(s, session))
	must(t, d.put(session, ask("q", text)))
	must(t, d.answer(session, "q", len(text)/4))
	start := time.Now()
	s.worker.kill()
	must(t, s.startWorker())
	must(t, d.finished(session, "q"))
	wants(t, d.view(session), "q", text)
	sameEverywhere(t, d, session, s)
	t.Logf("the answer was there %v after the worker's death", time.Since(start))
}

// TestTerm: SIGTERM ends nodes and workers with status 0, and nothing is lost.
func TestTerm(t *testing.T) {
	t.Parallel()
	const session = "gina/term"
	list := sites(t, "beijing", "shanghai")
	must(t, startAll(list))
	beijing, shanghai := list[0], list[1]
	d := user(t, "gina", "phone")
	must(t, d.connect(beijing, session))
	must(t, d.put(session, msg("m1", "stays")))
	for _, p := range []*process{beijing.serve, beijing.worker} {
		p.signal(syscall.SIGTERM)
	}
	for _, p := range []*process{beijing.serve, beijing.worker} {
		code, err := p.exit(patience)
		must(t, err)
		if code != 0 {
			t.Errorf("%s ended with status %d after SIGTERM:\n%s", p.name, code, p.errout.tail())
		}
	}
	d.drop()
	must(t, d.connect(shanghai, session))
	must(t, d.until("it is not behind", func() bool { return !d.view(session).Behind }))
	if d.view(session).Entries["m1"] == nil {
		t.Error("a drained region's message is not in the other one")
	}
	must(t, beijing.restart())
	sameEverywhere(t, d, session, beijing, shanghai)
}
