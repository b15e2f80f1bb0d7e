package machine

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
type hot struct{ young, old map[string]elements }

// elements are values by key.
type elements map[string][]byte

func newHot() *hot { return &hot{young: map[string]elements{}} }

// of returns the elements of a session, to be changed.
func (h *hot) of(session string) elements {
	e := h.young[session]
	if e != nil {
		return e
	}
	if e = h.old[session]; e == nil {
		e = elements{}
	}
	if len(h.young) >= hotSessions {
		h.young, h.old = map[string]elements{}, h.young
	}
	h.young[session] = e
	return e
}

// keep takes over what a step has changed, once that is the state.
func (e elements) keep(l *layer) {
	for _, c := range l.changed {
		if c.was && c.value != nil && len(c.value) <= hotBytes && len(e) < hotElements {
			e[c.key] = c.value
		} else {
			delete(e, c.key)
		}
	}
}
