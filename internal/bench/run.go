package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// rampLimit is how long a connection is tried at the start; rampAtOnce bounds how many are at a time.
	rampLimit  = 15 * time.Second
	rampAtOnce = 64
	// settleLimit is how long is waited, after the last send, for what is still to come, and then for a reader to get it.
	settleLimit = 10 * time.Second
	settleLook  = 50 * time.Millisecond
	readAtOnce  = 16
	maxNotes    = 5
)

// run is one run, from its ramp to its report.
type run struct {
	cfg      Config
	count    *counts
	sessions []*session
	ramp     time.Time
	start    time.Time
	up       atomic.Int64
	retries  sync.WaitGroup

	mu    sync.Mutex
	notes []string // the first errors, in words
}

type session struct {
	name, user string
	ledger     *ledger
	devices    []*device
}

// Run loads the regions and reports. When ctx ends early so does the load, and what there is is reported. The error is of
// a run that could not be made; what the run found is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := descriptors(cfg.Connections); err != nil {
		return nil, err
	}
	b := &run{cfg: cfg, count: newCounts(&cfg), ramp: time.Now()}
	b.build()
	// Connections outlive the load: what was sent is still to be answered and shown.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	living, life := errgroup.WithContext(life)
	err := b.connect(ctx, life, living)
	loaded := time.Duration(0)
	if err == nil {
		loaded = b.load(ctx, life)
		b.settle(life)
	}
	stop := time.Now()
	end()
	b.retries.Wait()
	if e := living.Wait(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	return b.report(b.check(context.WithoutCancel(ctx)), loaded, stop), nil
}

// build makes sessions and devices. The names are new in every run.
func (b *run) build() {
	name := fmt.Sprintf("bench-%x", time.Now().UnixNano())
	for i := range b.cfg.Connections / b.cfg.Devices {
		s := &session{user: fmt.Sprintf("bench%d", i)}
		s.name = s.user + "/" + name
		s.ledger = newLedger(b.cfg.Devices, b.count)
		for d := range b.cfg.Devices {
			s.devices = append(s.devices, &device{
				b: b, ledger: s.ledger, index: d, conn: i*b.cfg.Devices + d, user: s.user, session: s.name, text: text(b.cfg.Payload),
			})
		}
		b.sessions = append(b.sessions, s)
	}
}

func (b *run) devices() (all []*device) {
	for _, s := range b.sessions {
		all = append(all, s.devices...)
	}
	return all
}

// connect brings all devices up, some at a time.
func (b *run) connect(ctx, life context.Context, living *errgroup.Group) error {
	slots := make(chan struct{}, rampAtOnce)
	all := make(chan struct{})
	var once sync.Once
	stop := b.progress(func() string { return fmt.Sprintf("%d of %d connections", b.up.Load(), b.cfg.Connections) })
	defer stop()
	for _, d := range b.devices() {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		case <-life.Done():
			return living.Wait()
		}
		d.ready = func() {
			<-slots
			if b.up.Add(1) == int64(b.cfg.Connections) {
				once.Do(func() { close(all) })
			}
		}
		living.Go(func() error { return d.live(life) })
	}
	select {
	case <-all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-life.Done():
		return living.Wait()
	}
}

// load sends until its time is over or ctx ends, and returns how long that was.
func (b *run) load(ctx, life context.Context) time.Duration {
	b.start = time.Now()
	for _, s := range b.sessions {
		s.ledger.begin(b.start)
	}
	stop := b.progress(func() string {
		return fmt.Sprintf("%s of %s: %d sent, %d ok, %d delivered, p99 of ok %s", time.Since(b.start).Round(time.Second),
			b.count.end, b.count.sent.Load(), b.count.acked.Load(), b.count.delivered.Load(), b.count.p99())
	})
	defer stop()
	var sending sync.WaitGroup
	for _, d := range b.devices() {
		sending.Go(func() { b.send(ctx, life, d) })
	}
	sending.Wait()
	return min(time.Since(b.start), b.count.end)
}

// send sends one device's ops when they are due, all of them, however late: what a run that is behind left out would be
// missing from its latencies.
func (b *run) send(ctx, life context.Context, d *device) {
	plan := newSchedule(&b.cfg, d.conn)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, k := plan.next()
		if due >= b.count.end {
			return
		}
		timer.Reset(time.Until(b.start.Add(due)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if b.count.measured(due) {
			b.count.offered.Add(1)
			if time.Since(b.start)-due > lateAfter {
				b.count.late.Add(1)
			}
		}
		d.put(life, due, k)
	}
}

// settle waits until nothing is on its way any more.
func (b *run) settle(ctx context.Context) {
	limit, look := time.NewTimer(settleLimit), time.NewTicker(settleLook)
	defer limit.Stop()
	defer look.Stop()
	for {
		n := 0
		for _, s := range b.sessions {
			n += s.ledger.open()
		}
		if n == 0 {
			return
		}
		select {
		case <-look.C:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// check reads every session back and holds it against its ledger. It returns how many could not be read.
func (b *run) check(ctx context.Context) (unread int64) {
	var g errgroup.Group
	g.SetLimit(readAtOnce)
	var failed, done atomic.Int64
	stop := b.progress(func() string { return fmt.Sprintf("%d of %d sessions read back", done.Load(), len(b.sessions)) })
	defer stop()
	for i, s := range b.sessions {
		g.Go(func() error {
			defer done.Add(1)
			log, err := b.readWhole(ctx, i, s)
			if err == nil {
				s.ledger.hold(log)
				return nil
			}
			failed.Add(1)
			b.note(&frame{Code: "not read back", Msg: err.Error()})
			return nil
		})
	}
	_ = g.Wait() // always nil
	return failed.Load()
}

// readWhole reads a session at one URL after the other, since a node may be gone for good, and again for a while as long as
// something is missing, since a node that was not asked before may be behind.
func (b *run) readWhole(ctx context.Context, i int, s *session) ([]item, error) {
	limit := time.Now().Add(settleLimit)
	for try := 0; ; try++ {
		got, err := b.readBack(ctx, b.cfg.URLs[(i+try)%len(b.cfg.URLs)], s)
		if err == nil && (s.ledger.missing(got) == 0 || time.Now().After(limit)) {
			return got, nil
		}
		if err != nil && try+1 >= len(b.cfg.URLs) && time.Now().After(limit) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settleLook):
		}
	}
}

// later runs fn after a while, unless ctx ends.
func (b *run) later(ctx context.Context, after time.Duration, fn func()) {
	b.retries.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(after):
			fn()
		}
	})
}

// note keeps the first errors for the report.
func (b *run) note(f *frame) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.notes) < maxNotes {
		b.notes = append(b.notes, f.Code+": "+f.Msg)
	}
}

// progress writes a line now and then until it is stopped.
func (b *run) progress(line func() string) (stop func()) {
	if b.cfg.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(b.cfg.Every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintln(b.cfg.Progress, line())
			}
		}
	})
	return func() { close(done); writing.Wait() }
}
