package machine

import (
	"bytes"

	"github.com/roamsync/roam/crdt"
)

const (
	// hotSessions bounds the sessions of a generation whose elements are at hand; two generations are kept, so that what is
	// used stays.
	hotSessions = 4096
	// hotElements bounds the elements of a session that are at hand, and hotBytes the size of each.
	hotElements = 1024
	hotBytes    = 1024
	// hotOIDs bounds the ops of a session whose oids are at hand, and allOIDs those of a generation: 4 to 8 bytes each.
	hotOIDs = 4096
	allOIDs = 1 << 20
)

// hot holds elements that entries changed in place, of the sessions that were changed last: they are changed again and
// again, a session's header above all. What it holds is what the store does. It is owned by who applies.
type hot struct {
	young, old map[string]*kept
	oids       int // of the young ones, when they became so
	sessions   int // bounds those of a generation
	cold       *cold
}

// kept is what is at hand of a session.
type kept struct {
	prefix   []byte       // of its keys
	header   []byte       // the element; nil: it is not at hand
	head     *crdt.Header // the same, read
	elements elements     // others
	oids     *oids        // nil: not all are at hand
	open     *sessionStore
	used     bool // by an entry before this one
	many     bool // more oids than are kept at hand
}

// elements are values by key.
type elements map[string]*element

// element is a value; nil: the key is known to be absent.
type element struct{ value []byte }

func newHot(sessions int, cold *cold) *hot {
	return &hot{young: map[string]*kept{}, old: map[string]*kept{}, sessions: sessions, cold: cold}
}

// of returns what is at hand of a session, to be changed.
func (h *hot) of(session string, p uint8) *kept {
	e := h.young[session]
	if e != nil {
		return e
	}
	if e = h.old[session]; e != nil {
		delete(h.old, session)
	} else {
		e = &kept{prefix: sessionPrefix(p, session)}
		h.cold.take(session, e)
	}
	h.young[session] = e
	if e.oids != nil {
		h.oids += e.oids.n
	}
	return e
}

// turn ends a generation if it has become too large. It is called between entries, so that what one has open stays.
func (h *hot) turn() {
	if len(h.young) < h.sessions && h.oids < allOIDs {
		return
	}
	for session, e := range h.old {
		h.cold.put(session, e)
	}
	clear(h.old)
	h.young, h.old, h.oids = h.old, h.young, 0
}

// lacks reports whether an oid is certainly not in the store, nor in what the entry has made of it.
func (k *kept) lacks(oid string) bool { return k.oids != nil && !k.oids.has(hashOID([]byte(oid))) }

// gather brings a session's oids to hand when a second entry touches it: what is used once should not cost a scan. Of one that is new they
// are at once.
func (k *kept) gather(st *sessionStore) {
	switch {
	case k.oids != nil || k.many:
	case k.used:
		k.scan(st)
	case len(crdt.ReadHeader(st).Seen) == 0:
		k.oids = &oids{}
	}
	k.used = true
}

func (k *kept) scan(st *sessionStore) {
	lo, hi := crdt.Identities()
	k.oids = &oids{}
	st.Scan(lo, hi, false, func(key, _ []byte) bool {
		k.add(key)
		return !k.many
	})
}

// add takes in the oid of an element.
func (k *kept) add(identity []byte) {
	if k.oids == nil {
		return
	}
	if k.oids.add(hashOID(identity[1:])); k.oids.n > hotOIDs {
		k.oids, k.many = nil, true
	}
}

// keep takes over what a step has changed, once that is the state.
func (k *kept) keep(st *sessionStore) {
	k.head, k.open = st.head, nil
	for i := range st.write.cells {
		c := &st.write.cells[i]
		switch {
		case !c.changed:
		case crdt.IsHeader(c.key[len(k.prefix):]):
			if k.header = append(k.header[:0], c.value...); c.value == nil || len(c.value) > hotBytes {
				k.header = nil
			}
		case c.was: // what was not there is not at hand
			if k.elements == nil {
				k.elements = elements{}
			}
			k.elements.keep(c)
		}
	}
}

// keep takes over one value that was there before, and was changed.
func (e elements) keep(c *cell) {
	held := e[string(c.key)]
	switch {
	case c.value == nil || len(c.value) > hotBytes:
		delete(e, string(c.key))
	case held != nil:
		held.value = bytes.Clone(c.value)
	case len(e) < hotElements:
		e[string(c.key)] = &element{bytes.Clone(c.value)}
	}
}

// bounded reports whether a key is a cursor, a digest or the like: there are few for a partition and an origin, and each entry needs those of
// its partitions. That one is absent is kept at hand, too.
func bounded(k []byte) bool {
	switch k[0] {
	case spaceMeta, spaceCursor, spaceDeps, spaceFloor, spaceBeyond, spaceDigest:
		return true
	}
	return false
}

// keepAll takes over what a step has looked at of those.
func (e elements) keepAll(l *layer) {
	for i := range l.cells {
		c := &l.cells[i]
		if !bounded(c.key) {
			continue
		}
		if held := e[string(c.key)]; held != nil {
			held.value = c.value
		} else {
			e[string(c.key)] = &element{c.value}
		}
	}
}
