package region

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// proof is whether a node can tell that its log holds every entry that it has acknowledged and that was committed, as far as the present
// incarnation goes. A process that has just begun cannot: its disk may have been put back. See DESIGN.md, "Incarnations".
type proof struct {
	mu   sync.Mutex
	has  bool
	lost uint64 // how often it was taken away
}

func (p *proof) holds() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has
}

// lose takes it away: the end of the log is about to go.
func (p *proof) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.has = false
	p.lost++
}

// since is to be taken before what proves something is looked at.
func (p *proof) since() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// give proves, unless something was lost since.
func (p *proof) give(since uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.has = p.has || p.lost == since
}

// proveLook is how often a node that is not proven looks whether it is.
const proveLook = 20 * time.Millisecond

// prove has the node proven again when it is not any more: see whole.
func (g *group) prove(ctx context.Context) error {
	for pause(ctx, proveLook) {
		if !g.proof.holds() {
			g.whole(ctx)
		}
	}
	return nil
}

// whole asks the leader, and waits until this node has applied what that one had, or until somebody else may lead. By a leader's own log it is
// proven; an older version's goes on where it must not, maybe, and does not say what it leads.
func (g *group) whole(ctx context.Context) bool {
	since, said := g.proof.since(), g.frontier(ctx)
	if said == nil {
		return false
	}
	for said.Term == 0 || g.raft.CurrentTerm() == said.Term {
		caught := g.fsm.Applied() >= said.Applied && g.fsm.Self() != ""
		switch {
		case caught && said.Term == 0:
			return true
		case caught && g.follows(said.Term):
			g.proof.give(since)
			return true
		case !pause(ctx, catchUpLook):
			return false
		}
	}
	return false
}

// follows reports whether the log ends as that of a term's leader did at some moment: what is before that is as it is there.
func (g *group) follows(term uint64) bool {
	return g.raft.CurrentTerm() == term && g.lastTerm() == term
}

// lastTerm is the term of the last entry, 0 if it is just being replaced.
func (g *group) lastTerm() uint64 {
	if last, err := g.log.LastIndex(); err == nil && last > 0 {
		var l raft.Log
		if g.log.GetLog(last, &l) != nil {
			return 0
		}
		return l.Term
	}
	metas, err := g.snaps.List()
	if err != nil || len(metas) == 0 {
		return 0
	}
	return metas[0].Term
}

// vote is whom the node voted for, and whether it was proven then.
type vote struct {
	term   uint64
	id     string
	proven bool
}

// votes remembers the last vote of this process.
type votes struct {
	proof *proof
	term  uint64 // of the vote that is being kept; owned by Raft
	last  atomic.Pointer[vote]
}

var (
	keyVoteTerm = []byte("LastVoteTerm")
	keyVoteFor  = []byte("LastVoteCand")
)

// keptTerm and kept note what Raft keeps: first the term of a vote, then for whom it is.
func (v *votes) keptTerm(key []byte, term uint64) {
	if string(key) == string(keyVoteTerm) {
		v.term = term
	}
}

func (v *votes) kept(key, value []byte) {
	if string(key) == string(keyVoteFor) {
		v.last.Store(&vote{v.term, string(value), v.proof.holds()}) // raft ids serve as addresses
	}
}

func (v *votes) now() vote {
	if last := v.last.Load(); last != nil {
		return *last
	}
	return vote{}
}
