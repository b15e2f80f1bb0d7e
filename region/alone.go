package region

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/region/machine"
)

// alone reports whether nobody but this node votes in the group.
func (g *group) alone() bool {
	servers := g.servers()
	others := 0
	for _, s := range servers {
		if s.Suffrage == raft.Voter && string(s.ID) != g.r.id {
			others++
		}
	}
	return others == 0 && len(servers) > 0
}

// Alone reports whether nobody but this node votes in the region: there is nobody to hand the lead to.
func (r *Region) Alone() bool {
	for _, g := range r.all() {
		if !g.alone() {
			return false
		}
	}
	return len(r.all()) > 0
}

// note keeps a byte of the node's own, durably.
func (r *Region) note(name string, v byte) error {
	return errors.Join(r.db.Set(machine.NodeKey(name), []byte{v}, pebble.NoSync), r.flush())
}

// checkSeveral reads whether the node is one of several. What its groups were when it last ran counts; what it was told counts for an
// empty directory, and for one that a version before this filled.
func (r *Region) checkSeveral() error {
	v, err := r.own().Get(machine.NodeKey(nodeSeveral))
	if err != nil {
		return err
	}
	r.several, r.founds = r.cfg.Expect != 1, !r.cfg.Join
	if len(v) == 1 {
		r.several, r.founds = v[0] == 1, false
	}
	return nil
}

// noteSeveral remembers whether others are in the node's groups: after a crash that decides whether there is somebody to
// have the state from.
func (r *Region) noteSeveral(was int) (is int, err error) {
	for _, g := range r.all() {
		switch n := len(g.servers()); {
		case n == 0:
			return was, nil // it is not part of the region yet
		case n > 1:
			is = 1
		}
	}
	if is == was {
		return is, nil
	}
	if err := r.note(nodeSeveral, byte(is)); err != nil {
		return is, fmt.Errorf("note whether there are other nodes: %w", err)
	}
	return is, nil
}

// Strangers refuses to be a region of one beside another that calls itself the same. A node that waits to be taken in is no stranger, nor
// one that was taken out.
func (r *Region) Strangers(ctx context.Context) error {
	if !r.Alone() {
		return nil
	}
	for _, m := range r.alive() {
		if m.ID == r.id || r.all()[0].has(m.ID) || r.out(m.ID) != machine.OutNot {
			continue
		}
		if h, err := r.hello(ctx, m); err == nil && h.Founded {
			return fmt.Errorf("region %s already has a node, %s, and --bootstrap-expect 1 founds regions of one: give this node another --region, or "+
				"empty its --data and start it with --bootstrap-expect 0 to join", r.cfg.Region, m.Node)
		}
	}
	return nil
}

// has reports whether a node is in the group.
func (g *group) has(id string) bool {
	for _, s := range g.servers() {
		if string(s.ID) == id {
			return true
		}
	}
	return false
}
