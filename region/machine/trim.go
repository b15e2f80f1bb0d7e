package machine

import (
	"slices"
	"sync"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// trim takes the oldest entries out of sessions, if they are still too long: how much goes is decided here, by the state that all
// nodes have.
func (s *step) trim(c *Command) {
	for _, op := range c.Ops {
		st, p := s.session(op.Session)
		if op.Kind == crdt.KindTrim && s.self != "" && crdt.IssueTrim(st, op, int(c.Keep)) {
			change := s.issue(st, p, op)
			s.events = append(s.events, wire.Event{Session: op.Session, Changes: []wire.Change{change}})
		}
		s.fail(st.err)
	}
}

const (
	// maxGrowing bounds the sessions that Growth remembers. When it is full it forgets them all: each is looked at again when it
	// next grows.
	maxGrowing = 1 << 16
	// maxTrims bounds what one command trims; the rest waits for the next.
	maxTrims = 64
)

// Growth finds the sessions that may have become too long, from what is applied. It may be used by several goroutines.
type Growth struct {
	keep int

	mu    sync.Mutex
	added map[string]int // entries since the session was last looked at; absent: never
	due   []string
}

// NewGrowth is for sessions of which about keep entries are to stay; 0: all.
func NewGrowth(keep int) *Growth { return &Growth{keep: keep, added: map[string]int{}} }

// Note takes what was applied. It does not wait.
func (g *Growth) Note(events []wire.Event) {
	if g.keep == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range events {
		if events[i].Reset {
			clear(g.added)
			g.due = nil
		}
		for j := range events[i].Changes {
			g.grown(events[i].Session, events[i].Changes[j].Items)
		}
	}
}

func (g *Growth) grown(session string, items []crdt.Item) {
	n := 0
	for _, it := range items {
		if it.Entry != nil {
			n++
		}
	}
	if n == 0 {
		return
	}
	had, looked := g.added[session]
	if looked && had > g.keep/4 {
		return // it is due already
	}
	if len(g.added) >= maxGrowing {
		clear(g.added)
		g.due = nil
	}
	if g.added[session] = had + n; !looked {
		g.added[session] = g.keep
	}
	if g.added[session] > g.keep/4 {
		g.due = append(g.due, session)
	}
}

// Trim returns the command for the sessions that are too long, as look shows them; nil if none is.
func (g *Growth) Trim(look func(session string, read func(crdt.Store)) error) (*Command, error) {
	c := &Command{Kind: KindTrim, Keep: uint64(g.keep)}
	for _, session := range g.take() {
		op, long := &crdt.Op{Kind: crdt.KindTrim, Session: session}, false
		if err := look(session, func(st crdt.Store) { long = crdt.IssueTrim(st, op, g.keep) }); err != nil {
			return nil, err
		}
		if long {
			c.Ops = append(c.Ops, &crdt.Op{Kind: crdt.KindTrim, Session: session})
		}
	}
	if len(c.Ops) == 0 {
		return nil, nil
	}
	return c, nil
}

// take returns some sessions to look at; they count anew from here on.
func (g *Growth) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.due), maxTrims)
	some := slices.Clone(g.due[:n])
	g.due = slices.Delete(g.due, 0, n)
	for _, session := range some {
		g.added[session] = 0
	}
	return some
}
