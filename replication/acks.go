package replication

import (
	"time"

	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire/peerpb"
)

// acksEvery is how often at most acknowledgements are sent: those in between go together. The first of a while goes at once.
const acksEvery = 10 * time.Millisecond

// acks are a stream's acknowledgements that wait to be sent together.
type acks struct {
	owed *peerpb.Want
	sent time.Time // when some were sent last
}

// holds reports whether a message waits, or goes with those that do: it does if it has acknowledgements only. Others overtake them,
// which does no harm.
func (a *acks) holds(w *peerpb.Want) bool {
	if !feeds.AcksOnly(w) {
		return false
	}
	if a.owed == nil {
		a.owed = w
	} else {
		feeds.JoinAcks(a.owed, w)
	}
	return true
}

// take returns what is to be sent now, nil if it is not time yet.
func (a *acks) take(now time.Time) *peerpb.Want {
	if a.owed == nil || now.Sub(a.sent) < acksEvery {
		return nil
	}
	w := a.owed
	a.owed, a.sent = nil, now
	return w
}

// due is when there is something to do, here or at the time that is given; zero: never.
func (a *acks) due(other time.Time) time.Time {
	if at := a.sent.Add(acksEvery); a.owed != nil && (other.IsZero() || at.Before(other)) {
		return at
	}
	return other
}
