package machine

import (
	"github.com/cespare/xxhash/v2"

	"github.com/roamsync/roam/crdt"
)

const (
	// hotSessions bounds the sessions of a generation whose elements are at hand; two generations are kept, so that what is
	// used stays.
	hotSessions = 4096
	// hotElements bounds the elements of a session that are at hand, and hotBytes the size of each.
	hotElements = 1024
	hotBytes    = 1024
	// hotOIDs bounds the ops of a session whose oids are at hand, and allOIDs those of a generation: some 20 bytes each.
	hotOIDs = 4096
	allOIDs = 1 << 20
)

// hot holds elements that entries changed in place, of the sessions that were changed last: they are changed again and
// again, a session's header above all. What it holds is what the store does. It is owned by who applies.
type hot struct {
	young, old map[string]*kept
	oids       int // of the young ones
}

// kept is what is at hand of a session.
type kept struct {
	prefix   []byte // of its keys
	elements elements
	head     *crdt.Header
	oids     oids
	used     bool // by an entry before this one
	many     bool // more oids than are kept at hand
}

// elements are values by key.
type elements map[string]*element

// element is a value; nil: the key is known to be absent.
type element struct{ value []byte }

// oids are the hashes of all oids of a session, as elements; nil: not all are at hand. Each op looks for its own, which hardly ever is
// there: what is not among these need not be looked for.
type oids map[uint64]struct{}

func newHot() *hot { return &hot{young: map[string]*kept{}} }

// of returns what is at hand of a session, to be changed.
func (h *hot) of(session string, p uint8) *kept {
	e := h.young[session]
	if e != nil {
		return e
	}
	if e = h.old[session]; e == nil {
		e = &kept{prefix: sessionPrefix(p, session), elements: elements{}}
	}
	if len(h.young) >= hotSessions || h.oids >= allOIDs {
		h.young, h.old, h.oids = map[string]*kept{}, h.young, 0
	}
	h.young[session] = e
	h.oids += len(e.oids)
	return e
}

// lacks reports whether an element is certainly not in the store.
func (o oids) lacks(k []byte) bool {
	if o == nil || !crdt.IsIdentity(k) {
		return false
	}
	_, there := o[xxhash.Sum64(k)]
	return !there
}

// gather brings a session's oids to hand when a second entry touches it: what is used once should not cost a scan. Of one that is new they
// are at once.
func (k *kept) gather(st *sessionStore) {
	switch {
	case k.oids != nil || k.many:
	case k.used:
		k.scan(st)
	case len(crdt.ReadHeader(st).Seen) == 0:
		k.oids = oids{}
	}
	k.used = true
}

func (k *kept) scan(st *sessionStore) {
	lo, hi := crdt.Identities()
	k.oids = oids{}
	st.Scan(lo, hi, false, func(key, _ []byte) bool {
		k.add(key)
		return !k.many
	})
}

// add takes in the oid of an element.
func (k *kept) add(element []byte) {
	if k.oids == nil {
		return
	}
	if k.oids[xxhash.Sum64(element)] = struct{}{}; len(k.oids) > hotOIDs {
		k.oids, k.many = nil, true
	}
}

// keep takes over what a step has changed, once that is the state.
func (k *kept) keep(st *sessionStore) {
	k.head = st.head
	for i := range st.write.cells {
		c := &st.write.cells[i]
		if !c.changed {
			continue
		}
		if element := c.key[len(k.prefix):]; c.value != nil && crdt.IsIdentity(element) {
			k.add(element)
		}
		k.elements.keep(c)
	}
}

// keep takes over one value that was there before, and was changed.
func (e elements) keep(c *cell) {
	held := e[string(c.key)]
	switch {
	case !c.was || c.value == nil || len(c.value) > hotBytes:
		delete(e, string(c.key))
	case held != nil:
		held.value = c.value
	case len(e) < hotElements:
		e[string(c.key)] = &element{c.value}
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
