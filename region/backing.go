package region

import (
	"context"
	"sync"
	"time"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

const (
	// backedWithin bounds how long a new leader asks whether it may go on under the present incarnation.
	backedWithin = 500 * time.Millisecond
	// backedPause is between two questions to a node that may be about to say yes.
	backedPause = 10 * time.Millisecond
)

// stance is what a node has done in a term, as far as it says whom it backs.
type stance struct {
	term   uint64
	voted  vote
	leader string // whom it follows
	last   uint64 // term of the last entry of its log
	proven bool
}

// backs reports whether the node has nothing that a leader of its term lacks, and is proven; or had nothing, and was, when it gave that one its vote.
func (s stance) backs(leader string) bool {
	return s.voted == vote{s.term, leader, true} || s.leader == leader && s.last == s.term && s.proven
}

// backs returns the term of the asker's lead if this node backs it; 0: it cannot say. Whether it is proven is looked at after the log: following the
// asker may have cost it.
func (g *group) backs(asker string) uint64 {
	s := stance{term: g.raft.CurrentTerm(), voted: g.voted.now()}
	_, leader := g.raft.LeaderWithID()
	s.leader, s.last = string(leader), g.lastTerm()
	s.proven = g.proof.holds()
	if !s.backs(asker) || g.raft.CurrentTerm() != s.term {
		return 0
	}
	return s.term
}

// answer is what a node says of a leader.
type answer int

const (
	saysNo answer = iota
	saysYes
	saysNotYet // it may be about to vote, or to follow
)

// backed reports whether this node, which leads in a term, may go on under the present incarnation: a majority of those that vote, itself
// included, is proven and had nothing that it lacks.
func (g *group) backed(ctx context.Context, term uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, backedWithin)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	voters, yes, asked := g.voters(), 0, 0
	if voters[g.r.id] && g.proof.holds() {
		yes++ // its log is its own
	}
	said := make(chan bool, len(voters))
	for _, m := range g.r.heard() {
		if m.ID != g.r.id && voters[m.ID] {
			voters[m.ID] = false // asked once
			asked++
			asking.Go(func() { said <- g.isBackedBy(ctx, m, term) })
		}
	}
	for ; !machine.Backed(yes, len(voters)) && asked > 0; asked-- {
		if <-said {
			yes++
		}
	}
	return machine.Backed(yes, len(voters))
}

// isBackedBy asks a node until it has said yes or no.
func (g *group) isBackedBy(ctx context.Context, m wire.Member, term uint64) bool {
	for {
		switch g.askBacking(ctx, m, term) {
		case saysYes:
			return true
		case saysNo:
			return false
		}
		if !pause(ctx, backedPause) {
			return false
		}
	}
}

func (g *group) askBacking(ctx context.Context, m wire.Member, term uint64) answer {
	h, err := g.r.hello(ctx, m)
	if err != nil {
		return saysNotYet // it may be starting
	}
	switch s := stateOf(h, g.n); {
	case s.Backs == term:
		return saysYes
	case s.Proven:
		return saysNotYet
	}
	return saysNo
}
