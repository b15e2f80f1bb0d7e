package region

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// silenceLook is how often it is looked whether the leader has said something, and silentLooks in how many looks in a row it has not when it is
	// given up. A process that gets no processor, or is stopped, does not look: its own silence is not taken for its leader's.
	silenceLook = 50 * time.Millisecond
	silentLooks = 7
)

// hush is a follower's memory of when its leader was heard.
type hush struct {
	heard time.Time
	looks int  // in a row without a word
	hasty bool // Raft has been told to look now
}

// look returns how many looks in a row there has been no word.
func (h *hush) look(heard time.Time) int {
	if h.looks++; !heard.Equal(h.heard) {
		h.heard, h.looks = heard, 0
	}
	return h.looks
}

// notice has Raft give up leaders that are silent. Raft by itself looks whether its leader is silent when a timer of one to two heartbeat time-outs fires, which the
// leader's words do not put back: it finds out after one time-out, or after three, and until both followers of three have found out neither is elected. All
// that is decided stays with Raft: who is made to look and has heard its leader meanwhile goes on as before, and asks the others before it begins an election.
func (r *Region) notice(ctx context.Context) error {
	look := time.NewTicker(silenceLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		for _, g := range r.all() {
			g.notice()
		}
	}
}

func (g *group) notice() {
	looks, state := g.hush.look(g.raft.LastContact()), g.raft.State()
	_, leader := g.raft.LeaderWithID()
	switch {
	case g.hush.hasty && (looks == 0 || state == raft.Leader):
		g.hasten(false)
	case !g.hush.hasty && state == raft.Follower && leader != "" && looks >= silentLooks && looks >= silentLooks+g.turn(string(leader)):
		g.hasten(true)
	}
}

// turn is how many looks later than others this follower gives its leader up: who is elected should be one that finds the others without a leader, and not one
// of two who begin at the same moment and vote for themselves.
func (g *group) turn(leader string) int {
	var voters []string
	for id, votes := range g.votes() {
		if votes && id != leader {
			voters = append(voters, id)
		}
	}
	slices.Sort(voters)
	return max(slices.Index(voters, g.r.id), 0)
}

// hasten has Raft look at once whether its leader is silent, which it does when its time-outs become shorter, or puts them back.
func (g *group) hasten(now bool) {
	g.hush.hasty = now
	err := g.tune(func(c *raft.ReloadableConfig) {
		c.HeartbeatTimeout, c.ElectionTimeout = heartbeat, heartbeat
		if now {
			c.HeartbeatTimeout, c.ElectionTimeout = lease, lease
		}
	})
	if err != nil {
		g.r.cfg.Logger.Warn("Raft's time-outs stay as they are", "group", g.n, "err", err)
	}
}

// tune changes what Raft lets be changed while it runs.
func (g *group) tune(change func(*raft.ReloadableConfig)) error {
	g.tuning.Lock()
	defer g.tuning.Unlock()
	c := g.raft.ReloadableConfig()
	change(&c)
	return g.raft.ReloadConfig(c)
}
