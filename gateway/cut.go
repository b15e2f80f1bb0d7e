package gateway

import (
	"slices"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// What is here is for sessions of which some was removed: whoever has one open is shown it anew.

// cut shows the session anew, since the client may hold what is gone. The ok of its own put goes before: it would place ops
// that are gone, and so it bears the cur from before the put.
func (c *Conn) cut(s *sub, it *item, before string) error {
	if it.ticket.conn != nil {
		c.outcome(s, it.event, it.ticket, before)
	}
	return c.show(s, removed)
}

// gone reports whether some of what a put placed was removed since: its ok would bring that back to a client that was shown the session
// without it already.
func (c *Conn) gone(s *sub, placed []wire.Placed) (some bool, err error) {
	err = c.g.cfg.Backend.View(s.session, func(st crdt.Store) {
		some = slices.ContainsFunc(placed, func(p wire.Placed) bool {
			id, _ := crdt.Lookup(st, p.OID)
			return id.Removed
		})
	})
	return some, err
}

// writeHeld writes an ok that has waited. If the session was cut meanwhile it may place what is gone.
func (c *Conn) writeHeld(h *heldOk, r wire.Reach) error {
	shown := h.sub != nil && h.sub.open && !h.sub.closed
	if shown {
		h.ok.Cur = h.sub.cursor()
	}
	c.writeOk(h.ok, h.sub, h.placed, r)
	if shown && h.sub.cuts != h.cuts {
		return c.show(h.sub, removed)
	}
	return nil
}

// page is read when its turn comes: one that was read before something was removed must not be written after the snap that tells of it.
func (c *Conn) page(f *wire.ClientFrame) error {
	page := &wire.PageFrame{T: "page", ID: *f.ID, S: f.S}
	err := c.g.cfg.Backend.View(f.S, func(st crdt.Store) {
		var log []*crdt.Entry
		log, page.More = crdt.Page(st, f.Before, tailOf(f.Limit))
		page.Log = entryFrames(log)
	})
	if err == nil {
		c.write(page)
	}
	return err
}

// lost reports whether some of what the client was told of before its open is answered is gone.
func (s *sub) lost(st crdt.Store) bool {
	return slices.ContainsFunc(s.told, func(oid string) bool {
		id, _ := crdt.Lookup(st, oid)
		return id.Removed
	})
}
