package replication

import "time"

// Gone returns the other regions that have not been heard for so long by this node, of partitions that it follows, a bit each: neither on
// their links nor by ops of theirs that came by way of a third region. Regions that were met count from when this node leads, also those
// that membership does not know any more.
func (l *Links) Gone(partitions uint64, after time.Duration) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.quiet.Gone(partitions, after, time.Now())
}

func (l *Links) heard(n lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet.Heard(n.region, n.partitions, time.Now())
}

// awaitMet has the silence of regions count that were met once and that there is nobody to ask of yet.
func (l *Links) awaitMet(partitions uint64, followed map[string]bool) {
	regions := l.cfg.Pool.allMet()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, region := range regions {
		if !followed[region] {
			l.quiet.Follow(region, partitions, time.Now())
		}
	}
}

// leave is for partitions that this node no longer follows.
func (l *Links) leave(partitions uint64) {
	regions := l.cfg.Pool.allMet()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, region := range regions {
		l.quiet.Leave(region, partitions)
	}
}
