package gateway

import (
	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// holding is what a client holds of a session, as vectors say it: what it came with, what it was shown here, and what the region still lacks of
// the former. What it is shown next, and what its token says, follows from that. It is a value: the session itself is read by others.
type holding struct {
	cur  string      // "none", "good" or "bad": what the client came with
	came position    // what it has seen, if good, with what it was shown by the sub before
	left crdt.Vector // of that, what there is: it is waited for
	pos  position    // what was delivered
	// told are own ops of which the client was told where they stand here, before it was shown the session or while the region is behind: it may
	// have seen elsewhere that they do not.
	told []string

	behind bool
	base   crdt.Vector // while behind: what the region had when the client came
	here   crdt.Vector // while behind: what it had when the client was shown something last
	// replaced: while behind, the client was shown the session anew, so it holds what this region has and no more.
	replaced bool
	stale    bool // the client asks with a token that may speak of what it does not hold any more
	resync   bool // the client has seen what is nowhere any more: it is shown the session as it is, and told so. Until then it holds that
}

const (
	curNone = "none"
	curGood = "good"
	curBad  = "bad"
)

// toldMost bounds told: of more, the client is shown the session anew.
const toldMost = 1024

// begin takes the token that the client came with. One that is not good may say at least what was the latest that it saw.
func (h *holding) begin(pos position, good bool) {
	h.cur, h.came = curBad, position{floor: pos.floor}
	if good {
		h.cur, h.came = curGood, pos
	}
}

// inherit takes over what a client was shown for the time being after the token that it asks again with.
func (h *holding) inherit(old *holding, open bool) {
	h.told = old.told
	if !open || !old.behind {
		return
	}
	shown, lent := old.pos.seen.Clone(), old.had().Clone()
	shown.Merge(h.came.shown)
	if old.came.lent != nil {
		lent = least(lent, old.came.lent)
	}
	h.came.shown, h.came.lent, h.stale = shown, lent, old.replaced
}

// await begins to wait for all that the client has seen.
func (h *holding) await() { h.left = h.came.all() }

// clamp takes from what is waited for what there is not, and reports whether that is news. The client still holds that, and its tokens say so,
// until it is shown the session anew: it may be another region that does that.
func (h *holding) clamp(finals crdt.Finals) (news bool) {
	left, lost := finals.Clamp(h.left)
	news = lost && !h.resync
	h.left, h.resync = left, h.resync || lost
	return news
}

// token says what was shown. While the region is behind its client, that is for the time being, since it may
// change where it meets what the client has seen elsewhere: it is covered once the region has caught up, and until then
// comes again to a client that comes back, here or in another region. It says what was here, without what was seen elsewhere: of
// what was removed by then nothing was shown, and of what is removed later the client may hold something.
func (h *holding) token() position {
	pos := h.pos
	switch {
	case h.behind && h.replaced:
		pos.shown, pos.lent = h.pos.seen.Clone(), h.pos.seen
		pos.shown.Merge(h.came.all())
	case h.behind:
		pos.seen, pos.shown = h.came.seen, h.here.Clone()
		pos.shown.Merge(h.came.shown)
		if pos.lent = h.here; h.came.lent != nil {
			pos.lent = least(h.here, h.came.lent)
		}
	}
	return pos
}

// had is what the region had when it last showed the client something: what is removed later the client may hold, even if it saw
// the removal elsewhere.
func (h *holding) had() crdt.Vector {
	if h.behind && !h.replaced {
		return h.here
	}
	return h.pos.seen
}

// mixed reports whether the client may hold what it was shown elsewhere for the time being: copies that do not stand here. It does until the
// region has all of that, which is shown as it comes, or until it is shown the session anew.
func (h *holding) mixed() bool { return h.behind && !h.replaced && h.came.shown != nil }

// take moves the position over a change and reports whether the client lacks it.
func (h *holding) take(ch *wire.Change) bool {
	if h.behind && !h.replaced {
		h.here[ch.Dot.ID] = max(h.here[ch.Dot.ID], ch.Dot.F)
	}
	if ch.Dot.F <= h.pos.seen[ch.Dot.ID] {
		return false
	}
	h.pos.seen[ch.Dot.ID] = ch.Dot.F
	h.pos.reach(0, ch.Op.Stamp)
	for _, it := range ch.Items {
		if it.Entry != nil {
			h.pos.reach(it.Entry.Seq, 0)
		}
	}
	return true
}

// tell notes where the ok of a put says that its ops stand.
func (h *holding) tell(placed []wire.Placed) {
	for _, p := range placed {
		if len(h.told) <= toldMost {
			h.told = append(h.told, p.OID)
		}
	}
}
