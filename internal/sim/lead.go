package sim

import (
	"context"
	"iter"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch"
	"github.com/roamsync/roam/region/machine"
)

// Times of dispatch, as the product has them.
const (
	roundEvery = 250 * time.Millisecond
	readEvery  = time.Second
	pollEvery  = time.Second
	trimEvery  = time.Second
)

// leadership is what a leader does about answers: the product's own steps, each run as a coroutine that is parked while it
// waits for the region.
type leadership struct {
	*node
	ctx     context.Context
	stop    context.CancelFunc
	lead    *dispatch.Lead
	tasks   map[string]*task
	current *task
	reading *event
	ended   bool
}

// task is a step that may be parked.
type task struct {
	next func() (struct{}, bool)
	stop func()
	park func(struct{}) bool
}

func newLeadership(n *node) *leadership {
	l := &leadership{node: n, tasks: map[string]*task{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	r := n.g.redis
	d, err := dispatch.New(dispatch.Config{
		Region: n.g.name, Commits: l, Redis: "redis://sim", Dial: r.dial, Now: n.now, Machine: n.w.time, Wait: l.wait,
		Draw: func(m int64) int64 { return m / 2 }, Abroad: l, TakeoverAfter: n.w.plan.Takeover,
	})
	if err != nil {
		panic(err) // the configuration is ours
	}
	l.run("open", func() {
		lead, err := d.Lead(l.ctx)
		if err == nil {
			l.lead = lead
			n.after(0, l.tick)
			n.after(0, l.poll)
			n.after(0, l.read)
		}
	})
	return l
}

// run does a step, unless the one before of its name is not done yet.
func (l *leadership) run(name string, fn func()) {
	if l.ended || l.tasks[name] != nil {
		return
	}
	t := &task{}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.park = yield
		fn()
		delete(l.tasks, name)
	})
	l.tasks[name] = t
	l.resume(t)
}

func (l *leadership) resume(t *task) {
	if l.ended {
		return
	}
	before := l.current
	l.current = t
	l.g.redis.tick()
	t.next()
	l.current = before
	l.g.redis.wake()
}

// pause parks the step that runs until something calls what it hands out; false: the leadership is over.
func (l *leadership) pause(until func(wake func())) bool {
	t := l.current
	woken := false
	until(func() {
		if !woken {
			woken = true
			l.after(0, func() { l.resume(t) })
		}
	})
	return t.park(struct{}{}) && !l.ended
}

func (l *leadership) wait(_ context.Context, d time.Duration) bool {
	return l.pause(func(wake func()) { l.after(d, wake) })
}

// Answer implements dispatch.Commits.
func (l *leadership) Answer(ctx context.Context, ops []*crdt.Op, position string) ([]crdt.Held, error) {
	var res machine.Result
	ok := l.pause(func(wake func()) {
		l.do(&machine.Command{Kind: machine.KindAnswer, Ops: ops, Position: position}, func(r machine.Result) {
			res = r
			wake()
		})
	})
	if !ok {
		return nil, context.Canceled
	}
	return res.Held, res.Err
}

// Gone implements dispatch.Abroad.
func (l *leadership) Gone(_ uint32, after time.Duration) []string {
	return l.quiet.Gone(l.g.mask, after, l.w.time())
}

// Followed implements dispatch.Abroad: of the nodes that can be asked.
func (l *leadership) Followed(_ context.Context, sessions []string) (open []string) {
	for _, n := range l.g.voters() {
		open = append(open, n.door.gw.Open(sessions)...)
	}
	return open
}

// tick has the outbox look at what is due.
func (l *leadership) tick() {
	l.run("round", func() { l.failed(l.lead.Round(l.ctx, true)) })
	l.after(roundEvery, l.tick)
}

// looked has the outbox look at what is new.
func (l *leadership) looked() {
	if l.lead != nil && l.lead.Pending() {
		l.run("round", func() { l.failed(l.lead.Round(l.ctx, false)) })
	}
}

func (l *leadership) poll() {
	l.run("poll", func() { l.lead.Poll(l.ctx) })
	l.after(pollEvery, l.poll)
}

func (l *leadership) read() {
	l.reading = l.after(readEvery, l.read)
	l.run("read", func() {
		if n, err := l.lead.Read(l.ctx); n > 0 && err == nil {
			l.readSoon(0) // there may be more
		}
	})
}

// readSoon reads what workers have reported.
func (l *leadership) readSoon(in time.Duration) {
	if l.ended || l.lead == nil {
		return
	}
	l.reading.cancel()
	l.reading = l.after(in, l.read)
}

func (l *leadership) failed(err error) {
	if err != nil && !l.ended {
		l.w.violate("dispatch", "%s: %v", l.node, err)
	}
}

// end lets go of everything; what is parked finds that it is over.
func (l *leadership) end() {
	l.ended = true
	l.stop()
	for _, name := range sortedKeys(l.tasks) {
		if t := l.tasks[name]; t != nil && t != l.current {
			t.stop()
		}
	}
	if l.lead != nil {
		l.lead.Close()
	}
}
