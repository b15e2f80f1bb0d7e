package region

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestHush: looks count in a row, from when the leader was heard last.
func TestHush(t *testing.T) {
	var h hush
	begin := time.Unix(1, 0)
	for i, c := range []struct {
		heard time.Time
		want  int
	}{
		{time.Time{}, 1}, {begin, 0}, {begin, 1}, {begin, 2}, {begin.Add(time.Millisecond), 0}, {begin.Add(time.Millisecond), 1},
	} {
		if got := h.look(c.heard); got != c.want {
			t.Errorf("%d: %d looks without a word, want %d", i, got, c.want)
		}
	}
}

// TestHastens: a follower whose leader is gone has Raft look, each in its turn, and puts the time-outs back once there is a leader again.
func TestHastens(t *testing.T) {
	c := newCluster(t, 3, nil)
	lead := c.leader()
	var rest []*clusterNode
	turns := map[int]bool{}
	for _, name := range []string{"n1", "n2", "n3"} {
		if n := c.node(name); name != lead {
			rest = append(rest, n)
			turns[n.all()[0].turn(c.node(lead).ID())] = true
		}
	}
	if len(turns) != 2 || !turns[0] || !turns[1] {
		t.Errorf("the turns of two followers are %v", turns)
	}
	c.node(lead).halt()
	rest[0].put(t, "alice/trip", msg("a", "text"))
	for _, n := range rest {
		g := n.all()[0]
		c.until("the time-outs are as before", func() bool {
			cfg := g.raft.ReloadableConfig()
			return g.raft.State() != raft.Candidate && cfg.HeartbeatTimeout == heartbeat && cfg.ElectionTimeout == heartbeat
		})
	}
}
