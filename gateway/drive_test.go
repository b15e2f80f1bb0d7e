package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// fakeClock is time that passes when a test says so. Timers run on the goroutine of advance, in the order in which they
// are due, and those due together in the order in which they were set.
type fakeClock struct {
	now    time.Time
	timers []*fakeTimer
}

type fakeTimer struct {
	at time.Time
	fn func()
}

func (c *fakeClock) Now() time.Time { return c.now }

func (c *fakeClock) AfterFunc(d time.Duration, fn func()) (stop func() bool) {
	t := &fakeTimer{at: c.now.Add(d), fn: fn}
	c.timers = append(c.timers, t)
	return func() bool { return c.drop(t) }
}

func (c *fakeClock) drop(t *fakeTimer) bool {
	i := slices.Index(c.timers, t)
	if i >= 0 {
		c.timers = slices.Delete(c.timers, i, i+1)
	}
	return i >= 0
}

func (c *fakeClock) advance(d time.Duration) {
	end := c.now.Add(d)
	for {
		var next *fakeTimer
		for _, t := range c.timers {
			if !t.at.After(end) && (next == nil || t.at.Before(next.at)) {
				next = t
			}
		}
		if next == nil {
			break
		}
		c.drop(next)
		c.now = next.at
		next.fn()
	}
	c.now = end
}

// rig drives connections of a gateway on one goroutine, in a time of its own.
type rig struct {
	t     *testing.T
	f     *fake
	g     *Gateway
	clock *fakeClock
	woken []*driven // in the order in which they have to work
}

// driven is a connection and the transport that it writes to.
type driven struct {
	rig    *rig
	c      *Conn
	lines  []string // frames written and not looked at yet
	closed wire.Status
	reason string // of that
	broken error  // what Write answers
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, f: newFake(), clock: &fakeClock{now: unixZero}}
	cfg.Region, cfg.Node, cfg.Backend, cfg.Peers, cfg.Keys, cfg.Clock = "beijing", "b1", r.f, r.f, testKeys, r.clock
	cfg.Held = func(uint8) (crdt.Vector, bool) { return r.f.elsewhere, r.f.elsewhere != nil }
	cfg.Finals = func(uint8) crdt.Finals { return r.f.finals }
	if cfg.Auth == nil {
		cfg.Auth = Dev{}
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Watch())
	r.g = g
	return r
}

// connect has a client that has not said hello.
func (r *rig) connect() *driven {
	r.t.Helper()
	d := &driven{rig: r}
	c, err := r.g.Connect(d, func() {
		if !slices.Contains(r.woken, d) {
			r.woken = append(r.woken, d)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	d.c = c
	r.t.Cleanup(c.End)
	return d
}

func (r *rig) hello() *driven {
	r.t.Helper()
	d := r.connect()
	d.say(`{"t":"hello","id":1,"token":"dev:alice","device":"phone"}`)
	d.wants("welcome")
	return d
}

// settle lets all work that have something to do.
func (r *rig) settle() {
	for len(r.woken) > 0 {
		d := r.woken[0]
		r.woken = r.woken[1:]
		d.c.Work()
	}
}

func (r *rig) advance(d time.Duration) {
	r.clock.advance(d)
	r.settle()
}

func (d *driven) Write(message []byte) error {
	if d.broken != nil {
		return d.broken
	}
	d.lines = append(d.lines, strings.Split(string(message), "\n")...)
	return nil
}

func (d *driven) Close(status wire.Status, reason string) { d.closed, d.reason = status, reason }

// receive hands a frame over without letting anybody work.
func (d *driven) receive(format string, args ...any) bool {
	return d.c.Receive(fmt.Appendf(nil, format, args...))
}

// say hands a frame over and lets all work.
func (d *driven) say(format string, args ...any) {
	d.receive(format, args...)
	d.rig.settle()
}

// wants checks the types of all frames since the last look, and returns them.
func (d *driven) wants(types ...string) []frame {
	d.rig.t.Helper()
	var got []string
	var frames []frame
	for _, line := range d.lines {
		var f frame
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			d.rig.t.Fatalf("%q: %v", line, err)
		}
		got, frames = append(got, f.str("t")), append(frames, f)
	}
	if !slices.Equal(got, types) {
		d.rig.t.Fatalf("written: %v, want %v\n%s", got, types, strings.Join(d.lines, "\n"))
	}
	d.lines = nil
	return frames
}

// want is wants of one frame.
func (d *driven) want(typ string) frame {
	d.rig.t.Helper()
	return d.wants(typ)[0]
}

var errBroken = errors.New("the line is cut")
