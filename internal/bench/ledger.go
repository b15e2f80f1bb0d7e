package bench

import (
	"strconv"
	"strings"
	"sync"
	"time"
)

// ledger is what one session's devices have sent and got. Its oids are "device-number".
type ledger struct {
	start time.Time
	count *counts

	mu      sync.Mutex
	devices []*account
	runs    map[string]ref // answer's oid -> question
}

// ref names an op.
type ref struct{ device, n int }

func (r ref) oid() string { return strconv.Itoa(r.device) + "-" + strconv.Itoa(r.n) }

func parseRef(oid string) (ref, bool) {
	d, n, ok := strings.Cut(oid, "-")
	device, err1 := strconv.Atoi(d)
	number, err2 := strconv.Atoi(n)
	return ref{device, number}, ok && err1 == nil && err2 == nil && device >= 0 && number >= 0
}

// account is one device's part.
type account struct {
	sent  []op
	got   [][]place // by sender and number: where it was shown, zero if not yet
	last  []int     // by sender: the last number that was shown first
	pause time.Duration
}

type op struct {
	due     time.Duration // since the start of the run
	kind    kind
	state   state
	retried bool
	tries   int  // that were refused
	begun   bool // an answer has begun to come
	ended   bool // and is whole
}

type state uint8

const (
	waiting state = iota
	acked
	refused
)

type place struct {
	seq uint64
	at  string
}

func newLedger(devices int, count *counts) *ledger {
	l := &ledger{count: count, runs: map[string]ref{}}
	for range devices {
		a := &account{got: make([][]place, devices), last: make([]int, devices)}
		for i := range a.last {
			a.last[i] = -1
		}
		l.devices = append(l.devices, a)
	}
	return l
}

// begin says when the load begins.
func (l *ledger) begin(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = at
}

// send notes an op that is due, and returns its number.
func (l *ledger) send(device int, due time.Duration, k kind) ref {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.devices[device]
	a.sent = append(a.sent, op{due: due, kind: k})
	return ref{device, len(a.sent) - 1}
}

// unanswered returns the ops of a device that have no answer yet. They will be sent again, or never were answered.
func (l *ledger) unanswered(device int) (refs []ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.devices[device].sent {
		if o := &l.devices[device].sent[n]; o.state == waiting {
			o.retried = true
			refs = append(refs, ref{device, n})
		}
	}
	return refs
}

// unended counts a device's questions that were acknowledged and whose answer has not ended.
func (l *ledger) unended(device int) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.devices[device].sent {
		if o := &l.devices[device].sent[i]; o.kind == kindChat && o.state == acked && !o.ended {
			n++
		}
	}
	return n
}

func (l *ledger) kindOf(r ref) kind {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.devices[r.device].sent[r.n].kind
}

// ok notes that an op was acknowledged.
func (l *ledger) ok(r ref, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.devices[r.device]
	if r.n >= len(a.sent) || a.sent[r.n].state != waiting {
		return
	}
	o := &a.sent[r.n]
	o.state = acked
	took := now.Sub(l.start) - o.due
	a.pause = max(a.pause, took)
	l.count.ok(o.kind, o.due, took)
}

// refuse notes that an op was refused: for good, or to be sent again. It returns how often it has been.
func (l *ledger) refuse(r ref, again bool) (tries int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.devices[r.device]
	if r.n >= len(a.sent) || a.sent[r.n].state != waiting {
		return 0
	}
	o := &a.sent[r.n]
	o.retried = true
	o.tries++
	if !again {
		o.state = refused
	}
	return o.tries
}

// show notes that a device was shown an entry: live, or in a snap, which replaces all that it holds.
func (l *ledger) show(device int, it *item, snap bool, now time.Time) {
	if it.K == "run" {
		l.showRun(device, it, now)
		return
	}
	r, ok := parseRef(it.OID)
	if !ok || it.K != "msg" || r.device == device {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.device >= len(l.devices) || r.n >= len(l.devices[r.device].sent) {
		l.count.unknown.Add(1)
		return
	}
	a, o, here := l.devices[device], &l.devices[r.device].sent[r.n], place{it.Seq, it.At}
	for len(a.got[r.device]) <= r.n {
		a.got[r.device] = append(a.got[r.device], place{})
	}
	switch was := a.got[r.device][r.n]; {
	case was == place{}:
		l.count.deliver(o.due, now.Sub(l.start)-o.due)
		l.order(a, r)
	case was == here && !snap:
		l.count.doubled.Add(1)
	}
	a.got[r.device][r.n] = here
}

// order checks that a sender's messages come in its order, unless it had to send one of them again.
func (l *ledger) order(a *account, r ref) {
	last := a.last[r.device]
	sent := l.devices[r.device].sent
	if last > r.n && !sent[r.n].retried && !sent[last].retried {
		l.count.disordered.Add(1)
	}
	a.last[r.device] = max(last, r.n)
}

func closed(state string) bool { return state == "done" || state == "failed" || state == "stopped" }

func (l *ledger) showRun(device int, it *item, now time.Time) {
	r, ok := parseRef(it.Of)
	if !ok || r.device != device {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs[it.OID] = r
	if r.n < len(l.devices[device].sent) && closed(it.State) {
		o := &l.devices[device].sent[r.n]
		if !o.ended {
			o.ended = true
			l.count.answered(o.due, now.Sub(l.start)-o.due, it.State)
		}
	}
}

// token notes that a piece of an answer came.
func (l *ledger) token(device int, run string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.runs[run]
	if !ok || r.device != device || r.n >= len(l.devices[device].sent) {
		return
	}
	if o := &l.devices[device].sent[r.n]; !o.begun {
		o.begun = true
		l.count.began(o.due, now.Sub(l.start)-o.due)
	}
}

// open counts what is still to come: answers of the region to ops, acknowledged messages that another device was not
// shown, and answers that are not whole.
func (l *ledger) open() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d, a := range l.devices {
		for i := range a.sent {
			o := &a.sent[i]
			if o.state == waiting || o.state == acked && o.kind == kindChat && !o.ended {
				n++
			}
			if o.state != acked || o.kind != kindPut && o.kind != kindChat {
				continue
			}
			n += l.unseen(ref{d, i})
		}
	}
	return n
}

// unseen counts the other devices that were not shown a message.
func (l *ledger) unseen(r ref) (n int) {
	for d, a := range l.devices {
		if d != r.device && (r.n >= len(a.got[r.device]) || a.got[r.device][r.n] == place{}) {
			n++
		}
	}
	return n
}

// missing counts the acknowledged messages that are not in a log.
func (l *ledger) missing(log []item) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := map[ref]bool{}
	for _, it := range log {
		if r, ok := parseRef(it.OID); ok && it.K == "msg" {
			there[r] = true
		}
	}
	for d, a := range l.devices {
		for i := range a.sent {
			if o := &a.sent[i]; o.state == acked && (o.kind == kindPut || o.kind == kindChat) && !there[ref{d, i}] {
				n++
			}
		}
	}
	return n
}

// hold compares the session, read back whole, with what was acknowledged.
func (l *ledger) hold(log []item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := map[ref]int{}
	for _, it := range log {
		if r, ok := parseRef(it.OID); ok && it.K == "msg" {
			times[r]++
		}
	}
	for d, a := range l.devices {
		for n := range a.sent {
			o, r := &a.sent[n], ref{d, n}
			if o.kind != kindPut && o.kind != kindChat {
				continue
			}
			if o.state == acked && times[r] == 0 {
				l.count.lost.Add(1)
			}
			if times[r] > 1 {
				l.count.doubled.Add(1)
			}
			if o.state == acked {
				l.count.unseen.Add(int64(l.unseen(r)))
			}
		}
	}
}

// pauses returns the longest time that each device has waited for an ok, the ops that never got one included.
func (l *ledger) pauses(end time.Time) (all []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.devices {
		for n := range a.sent {
			if o := &a.sent[n]; o.state == waiting {
				a.pause = max(a.pause, end.Sub(l.start)-o.due)
			}
		}
		all = append(all, a.pause)
	}
	return all
}
