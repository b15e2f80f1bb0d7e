package dispatch

import (
	"time"

	"github.com/roamsync/roam/crdt"
)

// maxWait bounds how long an answer is left alone, whatever was expected: stamps may be of a clock that is far ahead.
const maxWait = 30 * time.Second

// action is what to do about an answer now.
type action uint8

const (
	forget       action = iota // it is closed, or another region's
	wait                       // look again at decision.at, or when the session changes
	enqueue                    // add a job
	check                      // see whether the job is still there
	closeStopped               // a user, or a newer question, asked for its end
	closeFailed                // nobody will answer it
)

// job is what this leader remembers of an answer's entry in a jobs stream. The zero value knows of none: that costs
// at most a second entry, of which one worker will be told that it is too late.
type job struct {
	stream, id string
	checkAt    time.Time
	lost       string    // why the entry is to be replaced: jobGone or jobStale; "" if it is not
	unserved   time.Time // since when workers are there, but none for this model; zero: not so
	nonce      string    // of the worker that holds the attempt, "" for none
}

// service says who could answer.
type service uint8

const (
	noWorkers service = iota // none is alive, or Redis is not there to tell
	unserved                 // some are, but none serves the model
	served
)

type decision struct {
	do       action
	at       time.Time // for wait: when to look again at the latest
	unserved time.Time // what to remember
}

// limits are the times that decide measures by; see Config.
type limits struct {
	region   string
	unserved time.Duration
}

// brings reports whether an answer is this region's to bring: the region that began it, else where the question stands.
func brings(region string, s *crdt.Slot) bool { return !s.State.Closed() && s.Home() == region }

// decide says what to do about one answer. behind is true if it has to wait for an earlier question's.
func (l limits) decide(now moment, s *crdt.Slot, behind bool, j job, sv service) decision {
	switch {
	case !brings(l.region, s):
		return decision{do: forget}
	case s.StopFin() != "":
		return decision{do: closeStopped}
	case s.Leased(crdt.StampAt(now.wall)):
		return decision{do: wait, at: earliest(now.Time, now.Add(leaseEnd(s).Sub(now.wall)))}
	case behind || sv == noWorkers:
		return decision{do: wait, at: now.Add(maxWait)}
	case sv == unserved:
		return l.decideUnserved(now.Time, j)
	case j.id == "" || j.lost != "":
		return decision{do: enqueue}
	case now.Before(j.checkAt):
		return decision{do: wait, at: earliest(now.Time, j.checkAt)}
	}
	return decision{do: check}
}

func (l limits) decideUnserved(now time.Time, j job) decision {
	since := j.unserved
	if since.IsZero() {
		since = now
	}
	if now.Sub(since) >= l.unserved {
		return decision{do: closeFailed}
	}
	return decision{do: wait, at: earliest(now, since.Add(l.unserved)), unserved: since}
}

func earliest(now, at time.Time) time.Time {
	if limit := now.Add(maxWait); at.After(limit) {
		return limit
	}
	return at
}

// leaseEnd is the first moment at which the slot is no longer leased, by the region's clock.
func leaseEnd(s *crdt.Slot) time.Time { return time.UnixMilli(s.Active.Wall()).Add(crdt.LeaseTTL) }

// queued reports, for answers in order of place, which have to wait for an earlier question's. Answers to one
// question run side by side, and what has begun goes on.
func queued(slots []*crdt.Slot) []bool {
	behind := make([]bool, len(slots))
	for i, s := range slots {
		for _, earlier := range slots[:i] {
			if s.State == crdt.RunQueued && earlier.Of != s.Of {
				behind[i] = true
				break
			}
		}
	}
	return behind
}

// found is what Redis says of a job's entry.
type found struct {
	exists    bool
	delivered bool          // the group has come past it
	pending   bool          // a worker holds it
	idle      time.Duration // for how long
}

// judge says why an entry is to be replaced, or "".
func (f found) judge(stale time.Duration) string {
	switch {
	case !f.exists:
		return jobGone
	case f.pending && f.idle >= stale:
		return jobStale
	case f.delivered && !f.pending: // its worker was removed from the group: nobody will get it
		return jobGone
	}
	return ""
}
