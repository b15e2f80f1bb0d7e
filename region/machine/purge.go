package machine

import (
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// KindPurge removes sessions that nobody has used for long.
const KindPurge Kind = 24

// purgeLevel is from which level on KindPurge may be proposed.
const purgeLevel = 3

// purge removes those sessions that are as they were when they were found idle.
func (s *step) purge(c *Command) {
	for _, op := range c.Ops {
		st, p := s.session(op.Session)
		if op.Kind == crdt.KindPurge && s.self != "" && crdt.IssuePurge(st, op, c.Before) {
			change := s.issue(st, p, op)
			s.events = append(s.events, wire.Event{Session: op.Session, Changes: []wire.Change{change}})
		}
		s.fail(st.err)
	}
}

const (
	// IdleLook bounds the sessions of which Idle reads the header at a time: once a second, a million are gone round in 67 minutes.
	IdleLook = 250
	// maxPurges bounds what one command purges; Idle comes to the rest when it has gone round.
	maxPurges = 64
)

// Idle looks for sessions that nobody has used for long: round and round, some at a time, since nothing says when a session becomes idle.
// It has one owner.
type Idle struct{ rounds }

// Look goes on through the sessions of some partitions, a bit each, and returns the command for those that were not used since before, as far as
// due agrees; nil if there is none. It looks at no session twice.
func (i *Idle) Look(m *Machine, partitions uint64, before time.Time, due func(session string, p uint8, seen crdt.Vector) bool) (*Command, error) {
	c := &Command{Kind: KindPurge, Before: before.UnixMilli()}
	snap := m.cfg.Store.Snapshot()
	defer snap.Close()
	err := i.look(snap, partitions, func(session string, p uint8, st *sessionStore) (bool, error) {
		seen, idle := crdt.Idle(st, c.Before)
		if idle && st.err == nil && due(session, p, seen) {
			c.Ops = append(c.Ops, &crdt.Op{Kind: crdt.KindPurge, Session: session, Seen: seen})
		}
		return len(c.Ops) < maxPurges, nil
	})
	if err != nil {
		return nil, err
	}
	return some(c), nil
}
