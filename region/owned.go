package region

import (
	"context"

	"github.com/roamsync/roam/crdt"
)

// Owned shows the sessions whose names begin with a prefix, group by group, as all of a group are when it begins with them. The
// stores are read only, and each ends with its visit. It stops when visit returns an error, and returns that. Its caller holds
// the region: see Hold.
func (r *Region) Owned(prefix string, visit func(session string, st crdt.Store) error) error {
	groups := r.all()
	if len(groups) == 0 {
		return errUnknown
	}
	for _, g := range groups {
		if err := g.fsm.Owned(prefix, visit); err != nil {
			return err
		}
	}
	return nil
}

// CaughtUp waits until this node has applied what the region had acknowledged, and reports whether it has; without a leader nobody
// knows.
func (r *Region) CaughtUp(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, backupWait)
	defer cancel()
	for _, g := range r.all() {
		if !g.catchUp(ctx) {
			return false
		}
	}
	return true
}
