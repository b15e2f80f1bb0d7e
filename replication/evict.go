package replication

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
)

// Absent is another region as whoever may give it up sees it.
type Absent struct {
	Region  string     `json:"region"`
	Alive   []string   `json:"alive,omitempty"` // its nodes, as membership knows
	Heard   bool       `json:"heard"`           // its heads come to this node, or one that leads
	Evicted bool       `json:"evicted"`         // it was given up, and has not come back
	Bound   string     `json:"bound,omitempty"` // the last incarnation that was given up, in hex
	Back    string     `json:"back,omitempty"`  // the one under which it has come back
	Open    feeds.Open `json:"open"`            // what is not closed yet of what was given up
}

// Absents are all other regions that were ever met.
func (l *Links) Absents() (all []Absent) {
	p, ev := l.cfg.Pool, l.cfg.Pool.cfg.Roster.Evictions(0)
	others, _ := p.peerRegions()
	names := slices.Clone(others)
	for region := range ev {
		if region != l.cfg.Region {
			names = append(names, region)
		}
	}
	slices.Sort(names)
	led, now := l.cfg.Lead.Led(), time.Now()
	for _, region := range slices.Compact(names) {
		a := Absent{Region: region, Evicted: ev.Out(region), Alive: p.aliveIn(region), Heard: p.matrix.heardNow(region, now)}
		if e, ok := ev[region]; ok {
			a.Bound = fmt.Sprintf("%016x", e.Bound)
			if !a.Evicted {
				a.Back = fmt.Sprintf("%016x", e.Back)
			}
		}
		p.matrix.mu.Lock()
		a.Open = p.matrix.known.Opens(l.local, others, led, region)
		p.matrix.mu.Unlock()
		p.unanswered(a.Open.Waits)
		all = append(all, a)
	}
	return all
}

// unanswered says for which seeds nothing is closed: a region that never answered may hold more than all others.
func (p *Pool) unanswered(why map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for seed := range p.owed {
		why["seed "+seed] = "it has not answered since this node started, so nobody knows what it holds: take it out of --join, if it is a node of that region, and start this node again"
	}
}

// aliveIn are a region's live nodes.
func (p *Pool) aliveIn(region string) (names []string) {
	for _, m := range p.known(func(m peer) bool { return m.Region == region && m.Alive }) {
		names = append(names, m.Region+"/"+m.Node)
	}
	return names
}

// heardNow reports whether a region's heads come, of whatever partition.
func (m *matrix) heardNow(region string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range uint8(crdt.Partitions) {
		if m.direct.lately(region, p, now) || m.told.lately(region, p, now) {
			return true
		}
	}
	return false
}

// Numbers reports whether another region that is heard numbers under an origin, in a partition.
func (l *Links) Numbers(o crdt.Origin, p uint8) bool {
	m := l.cfg.Pool.matrix
	if !m.heardNow(o.Region(), time.Now()) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.Numbers(o, p)
}

// ErrPresent is for a region that is to be given up, and must not: it is there, or it is not known what others hold of it.
var ErrPresent = errors.New("not evicted")

// Bound is the last incarnation of a region that is known here, which is what is given up with it. force does so although other
// regions are away too.
func (l *Links) Bound(region string, force bool) (uint64, error) {
	all := l.Absents()
	i := slices.IndexFunc(all, func(a Absent) bool { return a.Region == region })
	switch {
	case region == l.cfg.Region:
		return 0, fmt.Errorf("%w: %s is this node's own region: ask a node of another one", ErrPresent, region)
	case i < 0:
		return 0, fmt.Errorf("%w: no region %q was ever met here: see roam region list", ErrPresent, region)
	case all[i].Heard || len(all[i].Alive) > 0:
		return 0, fmt.Errorf("%w: region %s is there (nodes %s): an eviction is for one that does not come back; stop all its nodes first, and wait until membership knows",
			ErrPresent, region, strings.Join(all[i].Alive, ", "))
	}
	var away []string
	for _, a := range all {
		if a.Region != region && !a.Evicted && !a.Heard {
			away = append(away, a.Region)
		}
	}
	if len(away) > 0 && !force {
		return 0, fmt.Errorf("%w: %s cannot be reached from here either, and may hold more of %s than this region does: nothing would be closed before it is heard, or evicted too. "+
			"--force notes the eviction all the same", ErrPresent, strings.Join(away, ", "), region)
	}
	m := l.cfg.Pool.matrix
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.Bound(region, l.cfg.Source.Origins()), nil
}

// recount has everybody look again what is where, if other regions count than did: some were given up, or have come back, or it is not in doubt any more
// that they have not.
func (p *Pool) recount() {
	ev, doubted := p.cfg.Roster.Evictions(0), p.matrix.doubted(p.cfg.Region, p.cfg.Roster, time.Now())
	p.mu.Lock()
	same := maps.Equal(p.evicted, ev) && p.doubted == doubted
	p.evicted, p.doubted = maps.Clone(ev), doubted
	p.mu.Unlock()
	if !same {
		p.matrix.heard(func(*feeds.Matrix) bool { return true })
	}
}
