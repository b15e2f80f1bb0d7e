package machine

import "github.com/roamsync/roam/crdt"

const (
	// hotSessions bounds the sessions of a generation whose elements are at hand; two generations are kept, so that what is
	// used stays.
	hotSessions = 4096
	// hotElements bounds the elements of a session that are at hand, or of all else, and hotBytes the size of each.
	hotElements = 1024
	hotBytes    = 1024
)

// hot holds elements that entries changed in place, of the sessions that were changed last: they are changed again and
// again, a session's header above all. What it holds is what the store does. It is owned by who applies.
type hot struct{ young, old map[string]*kept }

// kept is what is at hand of a session.
type kept struct {
	elements elements
	head     *crdt.Header
}

// elements are values by key.
type elements map[string][]byte

func newHot() *hot { return &hot{young: map[string]*kept{}} }

// of returns what is at hand of a session, to be changed.
func (h *hot) of(session string) *kept {
	e := h.young[session]
	if e != nil {
		return e
	}
	if e = h.old[session]; e == nil {
		e = &kept{elements: elements{}}
	}
	if len(h.young) >= hotSessions {
		h.young, h.old = map[string]*kept{}, h.young
	}
	h.young[session] = e
	return e
}

// keep takes over what a step has changed, once that is the state.
func (e elements) keep(l *layer) {
	for i := range l.cells {
		c := &l.cells[i]
		if !c.changed {
			continue
		}
		if c.was && c.value != nil && len(c.value) <= hotBytes && len(e) < hotElements {
			e[c.key] = c.value
		} else {
			delete(e, c.key)
		}
	}
}
