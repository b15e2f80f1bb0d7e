package dispatch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// Abroad is what a leader asks about other regions, and about who waits for their answers in its own.
type Abroad interface {
	// Gone returns the regions that have not been heard for so long, of a group's partitions.
	Gone(group uint32, after time.Duration) []string
	// Followed returns which of some sessions clients have open in this region. It may take as long as ctx; whom it cannot ask follows nothing.
	Followed(ctx context.Context, sessions []string) []string
}

const (
	// lookAbroad is how often regions that are gone are looked for, rescanAbroad how often, as long as there are some, all open answers are
	// read for theirs.
	lookAbroad   = time.Second
	rescanAbroad = 5 * time.Second
	// maxAbroad bounds the sessions that are looked at each time, and asked about. The rest follows the next time.
	maxAbroad = 256
	// askAbroad bounds how long who follows them is waited for.
	askAbroad = 2 * time.Second
	// putLately is how long after a put to a session here somebody counts as waiting for its answers, without having it open.
	putLately = 5 * time.Minute
)

// takes reports whether this region is to take over an answer of one that is gone: somebody here waits for it, and it can be answered here,
// now and not after an earlier question. Whose end was asked for needs nobody to answer it. An answer that no worker here serves is left to
// its home, which may have one: it cannot be taken back.
func takes(s *crdt.Slot, gone, followed, behind bool, by service) bool {
	switch {
	case s.State.Closed() || !gone || !followed:
		return false
	case s.StopFin() != "":
		return true
	}
	return !behind && by == served
}

// orphans takes over answers of regions that are gone. All is owned by who calls round.
type orphans struct {
	looked, scanned time.Time
	gone            []string // as last looked
	left            []string // sessions that are still to be looked at since the scan
}

// orphan is an answer that could be taken over, and how.
type orphan struct {
	session, run, home string
	lately             bool // somebody put to its session here
	stops              bool
	ops                []*crdt.Op
}

// takeOver looks for answers that other regions do not bring any more, and takes over those that somebody here waits for. What fails is tried
// again with the next scan.
func (o *outbox) takeOver(ctx context.Context) {
	now := o.cfg.moment()
	if o.cfg.Abroad == nil || o.cfg.TakeoverAfter == 0 || now.Sub(o.orphans.looked) < lookAbroad {
		return
	}
	o.orphans.looked = now.Time
	o.scanAbroad(now.Time)
	if len(o.orphans.left) == 0 {
		return
	}
	n := min(len(o.orphans.left), maxAbroad)
	found := o.findAbroad(now.wall, o.orphans.left[:n])
	o.orphans.left = o.orphans.left[n:]
	o.adopt(ctx, o.wanted(ctx, found))
}

// scanAbroad lists the sessions with open answers, if regions are gone and it is time.
func (o *outbox) scanAbroad(now time.Time) {
	gone := o.cfg.Abroad.Gone(o.cfg.Group, o.cfg.TakeoverAfter)
	fresh := !slices.Equal(gone, o.orphans.gone)
	o.orphans.gone = gone
	switch {
	case len(gone) == 0:
		o.orphans.left = nil
		return
	case !fresh && (len(o.orphans.left) > 0 || now.Sub(o.orphans.scanned) < rescanAbroad):
		return
	}
	o.orphans.scanned = now
	runs, _, err := o.cfg.Commits.Open()
	if err != nil {
		o.cfg.Logger.Warn("open answers could not be read; trying again", "err", err)
		return
	}
	all := map[string]bool{}
	for _, r := range runs {
		all[r.Session] = true
	}
	o.orphans.left = sorted(all)
}

// findAbroad returns the answers of some sessions that are to be taken over if they are waited for.
func (o *outbox) findAbroad(wall time.Time, sessions []string) (found []orphan) {
	for _, session := range sessions {
		err := o.cfg.Commits.View(session, func(st crdt.Store) { found = append(found, o.orphansOf(wall, st, session)...) })
		if err != nil {
			o.cfg.Logger.Warn("session could not be read; trying again", "session", session, "err", err)
		}
	}
	return found
}

func (o *outbox) orphansOf(wall time.Time, st crdt.Store, session string) (found []orphan) {
	gone := func(s *crdt.Slot) bool { return slices.Contains(o.orphans.gone, s.Home()) }
	slots := openSlots(st, func(s *crdt.Slot) bool { return brings(o.limits.region, s) || gone(s) })
	for i, behind := range queued(slots) {
		if s := slots[i]; takes(s, gone(s), true, behind, o.force.serves(s.Asked)) {
			put := crdt.LastPut(st, o.limits.region)
			found = append(found, orphan{
				session: session, run: s.OID, home: s.Home(), stops: s.StopFin() != "", ops: s.TakeOver(st, session),
				lately: put > 0 && wall.Sub(time.UnixMilli(put.Wall())) < putLately,
			})
		}
	}
	return found
}

// wanted returns the answers that somebody in this region waits for.
func (o *outbox) wanted(ctx context.Context, found []orphan) []orphan {
	ask := map[string]bool{}
	for _, a := range found {
		if !a.lately {
			ask[a.session] = true
		}
	}
	var open []string
	if len(ask) > 0 {
		ctx, cancel := context.WithTimeout(ctx, askAbroad)
		defer cancel()
		open = o.cfg.Abroad.Followed(ctx, sorted(ask))
	}
	return slices.DeleteFunc(found, func(a orphan) bool { return !a.lately && !slices.Contains(open, a.session) })
}

// adopt commits that answers are this region's from now on. The outbox then sees to them as to any other.
func (o *outbox) adopt(ctx context.Context, all []orphan) {
	var ops []*crdt.Op
	for i, bytes := 0, 0; i < len(all); i++ {
		if bytes >= maxCommitBytes {
			all = all[:i] // the others are found again
			break
		}
		for _, op := range all[i].ops {
			ops, bytes = append(ops, op), bytes+len(op.Text)
		}
	}
	if len(ops) == 0 {
		return
	}
	held, err := o.cfg.Commits.Answer(ctx, ops, "")
	if err == nil && len(held) != len(ops) {
		err = errors.New("not all was answered")
	}
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, wire.ErrUnavailable) {
			o.cfg.Logger.Warn("answers of regions that are gone are not taken over; trying again", "err", err)
		}
		return
	}
	for _, a := range all {
		if held[0].Verdict == crdt.Accepted {
			o.tookOver(a)
		}
		held = held[len(a.ops):]
	}
}

func (o *outbox) tookOver(a orphan) {
	why := takenOpen
	if a.stops {
		why = takenStopped
	}
	o.met.taken.WithLabelValues(why).Inc()
	o.cfg.Logger.Info("answer taken over", "session", a.session, "run", a.run, "from", a.home)
}
