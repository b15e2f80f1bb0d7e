package sim

import (
	"fmt"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/crdt"
)

// without has the other regions go on until the answers that the region that is away was to make are made: all clients are with them. Then
// it comes back.
func (w *world) without() {
	for deadline, calm := w.now+settleLimit, 0; calm < 3 && !w.stopped(); {
		why := w.owed()
		if why == "" {
			calm++
		} else {
			calm = 0
		}
		if w.now >= deadline {
			w.violate("12 liveness", "%s after the last fault, without a region that is gone: %s", settleLimit, why)
		}
		w.run(w.now+time.Second, w.stopped)
	}
	for _, g := range w.groups {
		if g.away {
			w.tell("%s comes back", g.name)
			g.comeBack()
		}
	}
}

// owed says what is still to be answered while a region is away; "" if nothing is, or none is away.
func (w *world) owed() string {
	away := false
	for _, g := range w.groups {
		away = away || g.away
	}
	if !away || w.plan.Takeover == 0 {
		return ""
	}
	for _, g := range w.groups {
		if g.away {
			continue
		}
		lead := g.lead()
		if lead == nil {
			return g.name + " has no leader"
		}
		if open, _, _ := lead.m.Open(); len(open) > 0 {
			return fmt.Sprintf("%s has %d answers open, the first is %s of %s", g.name, len(open), open[0].Run, open[0].Session)
		}
	}
	return w.unanswered()
}

// unanswered says which client has not heard of the end of an answer that its region knows of. One that has seen more of it than anybody has
// who is there is told that it is behind.
func (w *world) unanswered() string {
	for _, d := range w.devices {
		if d.sock == nil {
			return d.String() + " is not connected"
		}
		for _, s := range d.plan.Sessions {
			st, _ := d.eng.State(s)
			for _, e := range st.Log {
				if !st.Behind && e.Kind == client.KindAnswer && !e.Closed() && d.sock.n.holds(s, e.OID) {
					return fmt.Sprintf("%s waits for %s of %s", d, e.OID, s)
				}
			}
		}
	}
	return ""
}

func (n *node) holds(session, run string) (held bool) {
	_ = n.View(session, func(st crdt.Store) { _, held = crdt.ReadSlot(st, run) })
	return held
}
