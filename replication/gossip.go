package replication

import (
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// maxGreeted bounds the links that have come up and were not seen to yet. What is forgotten then is levelled within a minute.
	maxGreeted = 16
	// maxWhole bounds what a node tells of the matrix when membership is levelled, in bytes; one with more tells nothing then.
	maxWhole = 4 << 20
)

// greeted is a region to which a link has come up, and the peer address of who leads there.
type greeted struct{ region, addr string }

// greet has all that is known of membership levelled with a region to which a link has come up: with who leads, since nobody else there does
// anything about an incarnation that others know, and the region has forgotten.
func (p *Pool) greet(region, addr string) {
	select {
	case p.greeted <- greeted{region, addr}:
	default:
	}
}

// level has a live node of a region, the one at an address if there is one, and this one tell each other all that they know of membership.
func (p *Pool) level(region, addr string) {
	all := p.known(func(m peer) bool { return m.Region == region && m.Alive })
	if at := slices.IndexFunc(all, func(m peer) bool { return m.Addr == addr }); at >= 0 {
		all = all[at : at+1]
	}
	if len(all) == 0 {
		return
	}
	to := all[rand.IntN(len(all))]
	if _, err := p.list.Join([]string{to.Gossip}); err != nil {
		p.cfg.Logger.Debug("level with a member", "member", to.Region+"/"+to.Node, "err", err)
	}
}

// claim is an address that claims the name of a node that is known at another: of one that has moved, and that is not known to be gone
// yet where it was.
type claim struct {
	addr string
	at   time.Time
}

const (
	// claimFor is for how long a claim is remembered after it was made.
	claimFor = time.Minute
	// maxClaims bounds those that are; others are heard when membership is levelled.
	maxClaims = 64
)

// contest remembers a claim.
func (p *Pool) contest(name, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.claims[name]; known || len(p.claims) < maxClaims {
		p.claims[name] = claim{addr, time.Now()}
	}
}

// settleNames asks those who claim a name again, until they have it: what they say is taken once the one who had it is known to be gone.
func (p *Pool) settleNames(now time.Time) {
	var ask []string
	p.mu.Lock()
	for name, c := range p.claims {
		if m := p.peers[name]; now.Sub(c.at) > claimFor || m.Alive && m.Gossip == c.addr {
			delete(p.claims, name)
			continue
		}
		ask = append(ask, c.addr)
	}
	p.mu.Unlock()
	for _, addr := range ask {
		if _, err := p.list.Join([]string{addr}); err != nil {
			p.cfg.Logger.Debug("ask who claims another's name", "addr", addr, "err", err)
		}
	}
}

// gossipAddr is where a node, region/node, gets datagrams, "" if that is not known.
func (p *Pool) gossipAddr(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peers[name].Gossip
}

// nodes are the live nodes of other regions that hold data, as region/node.
func (p *Pool) nodes() (names []string) {
	for _, m := range p.others() {
		if m.Alive {
			names = append(names, m.Region+"/"+m.Node)
		}
	}
	return names
}

// NotifyMsg implements memberlist.Delegate.
func (p *Pool) NotifyMsg(b []byte) { p.hear(b) }

// GetBroadcasts implements memberlist.Delegate; nothing is broadcast: leaders tell leaders.
func (p *Pool) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate. Who joins is told all that is known of the matrix; now and then that is a backstop, and must not cost
// more than what happens.
func (p *Pool) LocalState(join bool) []byte {
	s := p.spread.Load()
	if s == nil {
		return nil
	}
	whole := s.whole()
	if whole == nil || proto.Size(whole) > maxWhole || !join && !p.mayLevel(proto.Size(whole)) {
		return nil
	}
	b, err := proto.Marshal(whole)
	if err != nil {
		return nil
	}
	return b
}

func (p *Pool) mayLevel(size int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.levelled.May(size, time.Now())
}

// MergeRemoteState implements memberlist.Delegate.
func (p *Pool) MergeRemoteState(b []byte, _ bool) { p.hear(b) }

func (p *Pool) hear(b []byte) {
	s := p.spread.Load()
	if s == nil || len(b) == 0 {
		return
	}
	d := &peerpb.Gossip{}
	if len(b) > maxWhole || proto.Unmarshal(b, d) != nil {
		s.datagrams.WithLabelValues("refused").Inc()
		return
	}
	s.take(d)
}
