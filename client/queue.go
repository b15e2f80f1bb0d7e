package client

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	// defaultMaxAge is how long an op may be put again: regions remember oids for 30 days after what they are of was removed (--removed-ttl),
	// and a day is for clocks that differ.
	defaultMaxAge = 29 * 24 * time.Hour
	// maxBatchOps and maxBatchBytes bound a put where the region tells no limits.
	maxBatchOps   = 64
	maxBatchBytes = 64 << 10
	// putTimeout is how long a put may go unanswered before the connection is given up.
	putTimeout = 30 * time.Second
	// defaultRetry is when to put again what a region could not take now and did not say when.
	defaultRetry = 5 * time.Second
	// missedLimit is how long a region is given to come to have what an op is about that was accepted elsewhere.
	missedLimit = time.Minute
)

// pending is an op in the outbox. Its owner is the Client's lock.
type pending struct {
	stand
	op    op
	raw   json.RawMessage
	born  time.Time
	moved bool // was taken on a connection before this one
	known bool // the region knows what it comes after: it was put while the session was open as it is now
	stage Stage
	sent  bool // on this connection
	// placed: a region has said on this connection where it stands. covered is a token that knows that, and of what the next op is put after; its n
	// is 0 if there is none.
	placed  bool
	covered stand
	// missed is when a region first did not have what it is about, or another op that waited with it, although another region has accepted it.
	missed time.Time
	solo   bool // was in a put that was refused: goes alone, so that only what is wrong is refused
	err    error
}

// stand is what an op is put after.
type stand struct {
	cur  string // as in Item
	anew bool   // as in Item
	// n counts the session's ops in the order in which their tokens were taken, and begun how often the token had been begun anew; 0 and -1: by a
	// program before this one.
	n, begun int
}

func newPending(it Item) (*pending, error) {
	p := &pending{stand: stand{cur: it.Cur, anew: it.Anew, begun: -1}, raw: it.Op, born: it.Born}
	if err := json.Unmarshal(it.Op, &p.op); err != nil {
		return nil, fmt.Errorf("op %s in the outbox: %w", it.OID, err)
	}
	if p.op.OID != it.OID || p.op.K == "read" && p.op.Seq == nil {
		return nil, fmt.Errorf("op %s in the outbox is not what was put there", it.OID)
	}
	return p, nil
}

// queue is the outbox of one session: ops in the order they were put. One put is under way at a time, so that a
// region has them in this order whatever it refuses; the ops that come meanwhile go together in the next.
type queue struct {
	ops    []*pending
	bare   int   // ops that are placed, and not covered by a token
	flight int64 // id of the put under way, 0 if none
	flying []*pending
	since  time.Time
	after  time.Time // not before
}

// next takes the ops for the next put, nil if there is nothing to put now.
func (q *queue) next(now time.Time, max limits) []*pending {
	if q.flight != 0 || now.Before(q.after) {
		return nil
	}
	ops, bytes := bounds(max)
	var batch []*pending
	for _, p := range q.ops {
		if p.sent {
			continue
		}
		bytes -= len(p.raw) + 1
		if len(batch) > 0 && (len(batch) == ops || bytes < 0 || p.solo || p.anew) {
			break
		}
		batch = append(batch, p)
		if p.solo {
			break
		}
	}
	return batch
}

// unsent reports whether there is anything to put.
func (q *queue) unsent() bool {
	return slices.ContainsFunc(q.ops, func(p *pending) bool { return !p.sent })
}

func bounds(max limits) (ops, bytes int) {
	ops, bytes = maxBatchOps, maxBatchBytes
	if max.Ops > 0 {
		ops = min(ops, max.Ops)
	}
	if max.Frame > 0 {
		bytes = min(bytes, max.Frame-putOverhead)
	}
	return ops, bytes
}

// putOverhead is room for what a put has besides its ops: the session's id is the longest.
const putOverhead = 256

func (q *queue) fly(id int64, batch []*pending, now time.Time) {
	q.flight, q.flying, q.since = id, batch, now
	for _, p := range batch {
		p.sent = true
		p.stage = max(p.stage, Sent)
	}
}

func (q *queue) landed() []*pending {
	batch := q.flying
	q.flight, q.flying = 0, nil
	return batch
}

// again marks what is not under way to be put again.
func (q *queue) again() {
	for _, p := range q.ops {
		if !slices.Contains(q.flying, p) {
			p.unsend()
		}
	}
}

// unsend makes an op wait for the next put. What was stored stays so: it is put again to learn that it is safe.
func (p *pending) unsend() {
	p.sent = false
	if p.stage == Sent {
		p.stage = Waiting
	}
}

// lost takes the loss of the connection.
func (q *queue) lost() {
	q.landed()
	q.again()
	for _, p := range q.ops {
		p.moved, p.known, p.placed = true, false, false
	}
	q.after, q.bare = time.Time{}, 0
}

// placed notes that a region has said where an op stands.
func (q *queue) placed(p *pending) {
	if !p.placed && p.covered.n == 0 {
		q.bare++
	}
	p.placed = true
}

// cover takes it that a token knows where what was placed on this connection stands, and reports whether that is news of some.
func (q *queue) cover(by stand) bool {
	if q.bare == 0 {
		return false
	}
	for _, p := range q.ops {
		if p.placed && p.covered.n == 0 {
			p.covered = by
		}
	}
	q.bare = 0
	return true
}

// done takes the ops that need not be kept: those that are safe. Others that were put after one of them are to stand after it in any region, also
// one that has neither: from now on they come after a token that knows where it stands. As long as there is none, and one is waited for or there are
// others, or it need not cover what those came after, the op that is safe stays, and is put again with the others.
func (q *queue) done(waits bool) (ops []*pending) {
	first, begun := math.MaxInt, math.MaxInt // of those behind that stay
	for _, p := range slices.Backward(q.ops) {
		c := p.covered
		tells := c.n > 0 && (first >= c.n || begun >= c.begun)
		if p.stage == Safe && (tells || !waits && first == math.MaxInt) {
			ops = append(ops, p)
			continue
		}
		first, begun = min(first, p.n), min(begun, p.begun)
	}
	slices.Reverse(ops)
	var after stand
	for _, p := range q.ops {
		switch {
		case slices.Contains(ops, p):
			if p.covered.n > after.n {
				after = p.covered
			}
		case p.n < after.n:
			p.cur, p.n, p.begun = after.cur, after.n, after.begun
		}
	}
	return ops
}

// unknown takes it that the region will not know what the ops come after.
func (q *queue) unknown() {
	for _, p := range q.ops {
		p.known = false
	}
}

// refused takes an err for the put under way, and returns the ops that are refused for good.
func (q *queue) refused(why *Refusal, retry *int64, now time.Time) []*pending {
	batch := q.landed()
	if wait, ok := retryable(why, retry); ok {
		q.after = now.Add(wait)
		unsend(batch)
		return nil
	}
	if len(batch) > 1 {
		for _, p := range batch {
			p.solo = true
		}
		unsend(batch)
		return nil
	}
	if why.Code == "not_found" {
		q.missing(now)
	}
	if len(batch) == 1 && batch[0].stage != Safe && batch[0].patient(why, now) {
		q.after = now.Add(defaultRetry)
		unsend(batch)
		return nil
	}
	return batch
}

// missing notes that the region does not have what an op is about. It may be behind in what the others are about too; so all that wait give it
// the same time, not one after the other.
func (q *queue) missing(now time.Time) {
	for _, p := range q.ops {
		if p.missed.IsZero() {
			p.missed = now
		}
	}
}

// patient reports whether an op that is refused is to be put again: it was accepted elsewhere, or may have been, and what it is
// refused for may pass. Another answer that runs here ends; what it is about comes, if there is anybody left who has it.
func (p *pending) patient(why *Refusal, now time.Time) bool {
	if p.stage < Stored && !p.moved {
		return false
	}
	return why.Code == "busy" || why.Code == "not_found" && now.Sub(p.missed) < missedLimit
}

func unsend(batch []*pending) {
	for _, p := range batch {
		p.unsend()
	}
}

// retryable reports when what was refused may be tried again: when the region says so, or if its reason is passing.
func retryable(why *Refusal, retry *int64) (time.Duration, bool) {
	if retry != nil {
		return time.Duration(min(max(*retry, minRetryMS), maxRetryMS)) * time.Millisecond, true
	}
	switch why.Code {
	case "unavailable", "internal", "behind", "rate_limited", "unauthorized":
		return defaultRetry, true
	}
	return 0, false
}

// A region's `retry` is kept within these.
const (
	minRetryMS = 10
	maxRetryMS = 60_000
)

// expired returns the ops that are too old to be put again.
func (q *queue) expired(now time.Time, maxAge time.Duration) []*pending {
	var old []*pending
	for _, p := range q.ops {
		if !p.sent && now.Sub(p.born) > maxAge {
			old = append(old, p)
		}
	}
	return old
}

// remove takes ops out.
func (q *queue) remove(gone []*pending) {
	q.ops = slices.DeleteFunc(q.ops, func(p *pending) bool { return slices.Contains(gone, p) })
}

// pick returns the ops with these oids.
func (q *queue) pick(oids []string) []*pending {
	var found []*pending
	for _, p := range q.ops {
		if slices.Contains(oids, p.op.OID) {
			found = append(found, p)
		}
	}
	return found
}
