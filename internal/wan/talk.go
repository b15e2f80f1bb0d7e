package wan

import (
	"sync"
	"time"

	"github.com/roamsync/roam/internal/check"
)

// put is a message, and what became of it. Times are since the start of the crowd; 0: not yet.
type put struct {
	oid   string
	from  int // device
	n     int // of its device
	after int // the highest seq that its device had been shown then, if it is watched
	due   time.Duration
	ok    time.Duration
	shown []time.Duration // by device
	asks  bool
	ended bool // asks: some device was shown the whole answer
}

// talk is a session with a device in each region.
type talk struct {
	session, user string
	devices       []*device
	start         time.Time // of the crowd

	mu      sync.Mutex
	puts    map[string]*put
	sent    []int // by device
	acked   int
	reached int // put, and shown to all others
	waiting int // questions whose answer was not shown whole
}

func newTalk(session, user string, devices int, start time.Time) *talk {
	return &talk{session: session, user: user, start: start, puts: map[string]*put{}, sent: make([]int, devices)}
}

// of returns a message's record; the first who hears of it makes it. Holding mu.
func (t *talk) of(oid string) *put {
	p := t.puts[oid]
	if p == nil {
		p = &put{oid: oid, from: -1, shown: make([]time.Duration, len(t.sent))}
		t.puts[oid] = p
	}
	return p
}

// sending notes a message that a device has put, after it had been shown what stands up to a seq.
func (t *talk) sending(device int, oid string, due time.Duration, asks bool, after int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.of(oid)
	was := p.done()
	p.from, p.due, p.n, p.asks, p.after = device, due, t.sent[device], asks, after
	t.sent[device]++
	if !was && p.done() { // it was quicker than the note of it
		t.reached++
	}
	if asks && !p.ended {
		t.waiting++
	}
}

func (t *talk) stored(at []tapped, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range at {
		if p := t.of(o.OID); p.ok == 0 {
			p.ok = now.Sub(t.start)
			t.acked++
		}
	}
}

// shown notes what a device was shown.
func (t *talk) shown(device int, ops []tapped, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range ops {
		if o.K == "run" {
			t.answered(o)
		}
		if o.K != "msg" {
			continue
		}
		if p := t.of(o.OID); p.shown[device] == 0 {
			was := p.done() // its own device may be shown it too, after a break
			p.shown[device] = now.Sub(t.start)
			if !was && p.done() {
				t.reached++
			}
		}
	}
}

// answered notes the end of an answer. Holding mu.
func (t *talk) answered(o tapped) {
	if p := t.of(o.Of); check.Closed(o.State) && !p.ended {
		p.ended = true
		if p.asks {
			t.waiting--
		}
	}
}

// done says whether all devices but its own were shown it.
func (p *put) done() bool {
	for i, at := range p.shown {
		if i != p.from && at == 0 {
			return false
		}
	}
	return p.from >= 0
}
