package dispatch

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/internal/stream"
)

const (
	// maxTracked bounds the sessions that are watched. Those beyond wait until others are answered: they are in the
	// state, and are read from there again.
	maxTracked = 100_000
	// maxRound bounds the sessions, and maxRoundBytes about the jobs, that are worked on before new events are looked
	// at; the rest follows in the next round.
	maxRound      = 256
	maxRoundBytes = 4 << 20
	// maxSlots bounds the answers of one session that are looked at, by place; later ones follow when those are closed.
	maxSlots = 256
	// retryAfter is when something that could not be done is tried again.
	retryAfter = time.Second
)

// tracked is a session with answers to bring.
type tracked struct {
	due    time.Time // when to look at it without an event, by the machine's clock
	jobs   map[string]*job
	oldest crdt.Stamp // of the ops that asked for them
}

func (t *tracked) by(at time.Time) {
	if at.Before(t.due) {
		t.due = at
	}
}

// outbox sees to it that every open answer is asked for. All but inbox is owned by who calls round.
type outbox struct {
	cfg     *Config
	met     *metrics
	group   string // label of its gauges
	limits  limits
	jobs    jobs
	control *control
	health  *stream.Health
	inbox   *inbox

	sessions map[string]*tracked
	force    workforce
	backlog  bool // there are open answers that are not tracked
	rest     bool // the last round left some that are due
	orphans  orphans
}

// run works until ctx ends.
func (o *outbox) run(ctx context.Context) error {
	tick := time.NewTicker(o.cfg.Tick)
	defer tick.Stop()
	for all := true; ; {
		if err := o.round(ctx, all); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			all = true
		case <-o.inbox.wake:
			all = false
		}
	}
}

// round looks at what is new, or at all that is due, and does what is to be done about it.
func (o *outbox) round(ctx context.Context, all bool) error {
	if all {
		o.measure()
	}
	look := o.absorb(all || o.rest)
	if o.rest = len(look) > maxRound; o.rest {
		look = look[:maxRound] // the others stay due
		o.inbox.poke()
	}
	if err := o.perform(ctx, o.plan(look)); err != nil {
		return err
	}
	if all {
		o.takeOver(ctx)
	}
	o.met.tracked.WithLabelValues(o.group).Set(float64(len(o.sessions)))
	return nil
}

// measure shows how many answers are open, and since when.
func (o *outbox) measure() {
	open, oldest := 0, crdt.Stamp(0)
	for _, t := range o.sessions {
		open += len(t.jobs)
		if t.oldest > 0 && (oldest == 0 || t.oldest < oldest) {
			oldest = t.oldest
		}
	}
	o.met.open.WithLabelValues(o.group).Set(float64(open))
	age := time.Duration(0)
	if oldest > 0 {
		age = max(0, o.cfg.Now().Sub(time.UnixMilli(oldest.Wall())))
	}
	o.met.oldest.WithLabelValues(o.group).Set(age.Seconds())
}

// absorb takes what is new, and returns the sessions to look at now: those that changed, or all that are due.
func (o *outbox) absorb(all bool) []string {
	dirty, overflow, force := o.inbox.take()
	if overflow {
		o.met.deferred.WithLabelValues(fullDirty).Inc()
	}
	if overflow || (o.backlog && len(o.sessions) < maxTracked*9/10) {
		o.rescan(dirty)
	}
	now := o.cfg.Machine()
	changed := sorted(dirty)
	for _, session := range changed {
		o.track(session, now)
	}
	if force != nil && !force.equal(o.force) {
		o.force = *force
		for _, t := range o.sessions {
			t.due = now
		}
		all = true
	}
	if all {
		return o.due(now)
	}
	return slices.DeleteFunc(changed, func(session string) bool { return o.sessions[session] == nil })
}

// rescan adds every session with an open answer.
func (o *outbox) rescan(dirty map[string]struct{}) {
	runs, _, err := o.cfg.Commits.Open()
	o.backlog = err != nil
	if err != nil {
		o.cfg.Logger.Warn("open answers could not be read; trying again", "err", err)
	}
	for _, r := range runs {
		dirty[r.Session] = struct{}{}
	}
}

func (o *outbox) track(session string, due time.Time) {
	switch t := o.sessions[session]; {
	case t != nil:
		t.due = due
	case len(o.sessions) >= maxTracked:
		o.backlog = true
		o.met.deferred.WithLabelValues(fullTracked).Inc()
	default:
		o.sessions[session] = &tracked{due: due, jobs: map[string]*job{}}
	}
}

func (o *outbox) due(now time.Time) []string {
	var look []string
	for session, t := range o.sessions {
		if !t.due.After(now) {
			look = append(look, session)
		}
	}
	slices.SortFunc(look, func(a, b string) int { // who has waited longest first
		return cmp.Or(o.sessions[a].due.Compare(o.sessions[b].due), strings.Compare(a, b))
	})
	return look
}

// plan decides about the answers of some sessions. Those that no longer have any are forgotten.
func (o *outbox) plan(look []string) *plan {
	p := &plan{now: o.cfg.moment(), group: o.cfg.Group}
	for _, session := range look {
		t := o.sessions[session]
		if t == nil || p.bytes > maxRoundBytes {
			continue // it stays due
		}
		part := &plan{now: p.now, group: p.group}
		var jobs map[string]*job
		err := o.cfg.Commits.View(session, func(st crdt.Store) { jobs = o.planSession(part, st, session, t) })
		if err != nil { // what was read is not to be trusted
			o.cfg.Logger.Warn("session could not be read; trying again", "session", session, "err", err)
			t.due = p.now.Add(retryAfter)
			continue
		}
		p.join(part)
		if t.jobs = jobs; len(jobs) == 0 {
			delete(o.sessions, session)
		}
	}
	return p
}

// planSession decides about a session's open answers, and returns what is remembered of those that are ours.
func (o *outbox) planSession(p *plan, st crdt.Store, session string, t *tracked) map[string]*job {
	slots := o.slots(st)
	behind, jobs := queued(slots), map[string]*job{}
	t.due, t.oldest = p.now.Add(maxWait), 0
	for i, s := range slots {
		if t.oldest == 0 || s.Born < t.oldest {
			t.oldest = s.Born
		}
		j := t.jobs[s.OID]
		if j == nil {
			j = &job{}
		}
		jobs[s.OID] = j
		d := o.limits.decide(p.now, s, behind[i], *j, o.force.serves(s.Asked))
		j.unserved = d.unserved
		if s.Leased(crdt.StampAt(p.now.wall)) {
			*j = job{} // it was begun, and the worker that did removes its entry
		}
		j.nonce = s.Nonce
		p.add(d, planned{session: session, track: t, job: j, slot: s}, st)
	}
	for _, run := range sorted(t.jobs) {
		p.lose(st, o.limits.region, run, t.jobs[run])
	}
	return jobs
}

// slots returns the open answers that are ours to bring, by place.
func (o *outbox) slots(st crdt.Store) []*crdt.Slot {
	return openSlots(st, func(s *crdt.Slot) bool { return brings(o.limits.region, s) })
}

// openSlots returns the first open answers that fit, by place.
func openSlots(st crdt.Store, fits func(*crdt.Slot) bool) (all []*crdt.Slot) {
	for _, run := range crdt.OpenRuns(st) {
		if s, ok := crdt.ReadSlot(st, run); ok && len(all) < maxSlots && fits(s) {
			all = append(all, s)
		}
	}
	return all
}

// sorted are the keys of a set: what is done in their order is seen in Redis, and in the log.
func sorted[V any](set map[string]V) []string { return slices.Sorted(maps.Keys(set)) }

// failed notes that an operation on Redis failed.
func (o *outbox) failed(ctx context.Context, op string, err error) {
	if ctx.Err() == nil {
		o.met.failures.WithLabelValues(op).Inc()
		o.health.Failed(ctx, op, err)
	}
}
