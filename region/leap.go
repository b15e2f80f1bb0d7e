package region

import (
	"context"
	"math/rand/v2"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/wire"
)

// A disk that went back has forgotten terms and votes too. Its node would vote a second time in a term that has had a leader, or lead in one a second time:
// then two entries with one index and one term differ, of which Raft takes one for the other. So an election in which somebody takes part who is not
// proven is repeated once, in a term that nobody can have heard of.

// leapRange is how far terms leap, at random: further than terms go by themselves, so that a leap that was forgotten is not made again.
const leapRange = 1 << 32

// leaping is a transport that has its node leap.
type leaping struct {
	*transport
	g *group
}

// RequestVote implements raft.Transport.
func (t *leaping) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := t.transport.RequestVote(id, target, args, resp)
	if err != nil || !resp.Granted {
		return err
	}
	if to := t.g.leap(string(id), args.Term); to >= args.Term {
		resp.Granted, resp.Term = false, to // Raft goes on from there
	}
	return nil
}

// leap returns the term beyond which an election counts, as far as this node and one that has voted for it go; 0: all do.
func (g *group) leap(voter string, term uint64) (to uint64) {
	if !g.proof.holds() {
		to = g.leaps.beyond("", term)
	}
	ctx, cancel := context.WithTimeout(context.Background(), backedWithin)
	defer cancel()
	if proven, process := g.provenVoter(ctx, voter); !proven {
		to = max(to, g.leaps.beyond(voter+"/"+process, term))
	}
	return to
}

// provenVoter asks a node whether it is proven, and which process it is.
func (g *group) provenVoter(ctx context.Context, id string) (proven bool, process string) {
	for _, m := range g.r.heard() {
		if m.ID == id {
			return g.askProven(ctx, m)
		}
	}
	return false, ""
}

func (g *group) askProven(ctx context.Context, m wire.Member) (proven bool, process string) {
	h, err := g.r.hello(ctx, m)
	if err != nil {
		return false, ""
	}
	return stateOf(h, g.n).Proven, h.Process
}

// leaps are the terms that this process has leapt to, for itself and for the processes of other nodes.
type leaps struct {
	mu sync.Mutex
	to map[string]uint64
}

// leapsKept bounds them; to leap again costs an election.
const leapsKept = 1000

// beyond returns the term beyond which an election counts for a process that is not proven: it is drawn once.
func (l *leaps) beyond(process string, term uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil || len(l.to) >= leapsKept {
		l.to = map[string]uint64{}
	}
	if l.to[process] == 0 {
		l.to[process] = term + 1 + rand.Uint64N(leapRange)
	}
	return l.to[process]
}
