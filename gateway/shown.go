package gateway

import "github.com/roamsync/roam/crdt"

// moment is why a client is shown something of a session beside what changes.
type moment int

const (
	opened   moment = iota // it has opened the session
	caughtUp               // the region has all that it had seen elsewhere
	merged                 // another region's copy of the session was merged into the region's
	removed                // it may hold what is gone
)

// The reasons of snaps.
const (
	whyNew    = "new"
	whyResync = "resync"
	whyFloor  = "floor"
)

// decide says how a client is shown what it lacks: anew, and why; "" if it lacks some only. cut is what the last removals in the session are
// covered by; lost, that an op of which the client was told is gone.
func (h *holding) decide(at moment, cut crdt.Vector, lost bool) (why string) {
	anew := at == removed
	switch at {
	case opened:
		switch h.cur {
		case curNone:
			return whyNew
		case curBad:
			return whyResync
		}
		lent := h.came.lent == nil || h.came.lent.Covers(cut)
		anew = h.resync || h.stale || lost || len(h.told) > toldMost || !h.came.seen.Covers(cut) || !lent
	case caughtUp:
		anew = h.resync || len(h.told) > toldMost || !h.base.Covers(cut)
		if h.replaced {
			anew = h.resync || !h.pos.seen.Covers(cut)
		}
	case merged:
		anew = !h.had().Covers(cut)
	}
	switch {
	case anew && h.resync:
		return whyResync
	case anew:
		return whyFloor
	}
	return ""
}

// lacks reads what a client lacks that is not shown the session anew. It is what stands now, so it is also what still waits in the queue.
func (h *holding) lacks(at moment, st crdt.Store) []crdt.Item {
	since, from := crdt.Since, h.pos.seen
	switch {
	case at == caughtUp && !h.replaced: // that may have changed what it was shown in between
		return crdt.Crossed(st, h.base, h.came.seen, h.pos.seen, h.told)
	case at == caughtUp: // it holds nothing that it had seen elsewhere
	case h.mixed(), at == opened && (h.came.shown != nil || len(h.told) > 0):
		since = crdt.SinceBehind
	}
	if at == opened {
		from = h.came.seen
	}
	return since(st, from)
}

// anew has the client hold what the region has, and nothing else. While the region is behind, that takes from it what it had seen elsewhere,
// until that arrives here.
func (h *holding) anew(hd crdt.Header) {
	h.pos.seen, h.told, h.replaced = hd.Seen, nil, h.behind
	if h.resync {
		h.forsake()
	}
	if !h.behind {
		h.base, h.here = nil, nil
	}
	h.reach(hd)
}

// forsake ends that the client holds what is nowhere, since it is told so.
func (h *holding) forsake() {
	h.resync = false
	for _, v := range []*crdt.Vector{&h.came.seen, &h.came.shown, &h.came.lent} {
		if *v != nil {
			*v = least(*v, h.left)
		}
	}
	if !h.behind { // it holds what it is shown, and nothing that others have shown it
		h.came.shown, h.came.lent = nil, nil
	}
}

// more has the client hold what it lacked, too.
func (h *holding) more(at moment, hd crdt.Header) {
	switch {
	case at == opened && h.behind:
		h.base, h.here = hd.Seen.Clone(), hd.Seen.Clone()
	case at == opened || at == caughtUp:
		h.base, h.here, h.told, h.replaced = nil, nil, nil, false
	case h.behind && !h.replaced:
		h.here = hd.Seen.Clone()
	}
	if at == opened {
		h.pos.seen.Merge(h.came.seen)
	}
	h.pos.seen.Merge(hd.Seen)
	h.reach(hd)
}

// reach raises the position over what the session has, and what the client came with.
func (h *holding) reach(hd crdt.Header) {
	h.pos.reach(hd.MaxSeq, hd.MaxStamp)
	h.pos.reach(h.came.floor.Seq, h.came.floor.Stamp)
}
