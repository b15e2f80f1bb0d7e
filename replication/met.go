package replication

import "slices"

// configured counts the other regions that count for safe. A seed that never answered counts as one: nothing is called
// safe before it is known where that would be. It is asked for every op that a client waits to be safe.
func (p *Pool) configured() (n int) {
	ev := p.cfg.Roster.Evictions(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, region := range p.everMet() {
		if !ev.Out(region) {
			n++
		}
	}
	return n + len(p.owed)
}

// peerRegions returns the other regions that were ever met and were not given up, and whether every seed has answered.
func (p *Pool) peerRegions() (regions []string, all bool) {
	ev := p.cfg.Roster.Evictions(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.everMet()), ev.Out), len(p.owed) == 0
}

// allMet returns also those that were given up. They are not to be changed.
func (p *Pool) allMet() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.everMet()
}

// everMet is allMet, for who holds mu.
func (p *Pool) everMet() []string {
	if p.ever != nil {
		return p.ever
	}
	all := make([]string, 0, len(p.met)+len(p.peers))
	for r := range p.met {
		all = append(all, r)
	}
	for _, m := range p.peers {
		all = append(all, m.Region)
	}
	slices.Sort(all)
	p.ever = slices.DeleteFunc(slices.Compact(all), func(r string) bool { return r == p.cfg.Region })
	return p.ever
}
