package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// longWait is from when on it is kept what a client waited for.
const longWait = 500 * time.Millisecond

// wait is the time from a message to its ok, and what was tried meanwhile.
type wait struct {
	who        string
	begin, end time.Time
	tries      []try
}

// try is one attempt to have a message taken.
type try struct {
	node  string
	steps string // what it did, with how long each took
	err   error
}

func (w wait) took() time.Duration { return w.end.Sub(w.begin) }

// event is something that a test did to the nodes, or that one of them said.
type event struct {
	at   time.Time
	what string
}

// diary is what happened in a test, in order.
type diary struct {
	mu     sync.Mutex
	events []event
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, event{time.Now(), fmt.Sprintf(format, args...)})
}

// around are the events from some time before a wait to its end, with their distance from its begin.
func (d *diary) around(w wait) (lines []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if from := e.at.Sub(w.begin); from > -6*time.Second && e.at.Before(w.end) {
			lines = append(lines, fmt.Sprintf("%+.3fs %s", from.Seconds(), e.what))
		}
	}
	return lines
}

// story tells a wait.
func (d *diary) story(w wait) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s waited %.3fs; %s", w.who, w.took().Seconds(), strings.Join(d.around(w), "; "))
	for _, t := range w.tries {
		fmt.Fprintf(&b, "\n    %s: %s: %v", t.node, t.steps, t.err)
	}
	return b.String()
}

// tell logs how waits are spread, and what the longest of them waited for: of those that began at about the same time, one.
func (d *diary) tell(t *testing.T, waits []wait, most int) {
	t.Helper()
	slices.SortFunc(waits, func(a, b wait) int { return int(b.took() - a.took()) })
	for _, limit := range []time.Duration{longWait, 750 * time.Millisecond, time.Second, 1250 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second} {
		n := 0
		for n < len(waits) && waits[n].took() > limit {
			n++
		}
		t.Logf("%d waits of over %v", n, limit)
	}
	var told []wait
	for _, w := range waits {
		alike := slices.ContainsFunc(told, func(o wait) bool { return w.begin.Sub(o.begin).Abs() < time.Second })
		if len(told) < most && !alike {
			told = append(told, w)
			t.Log(d.story(w))
		}
	}
}
