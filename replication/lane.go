package replication

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
)

// lane is what one stream carries: some partitions of another region. They belong to one group here, and to one group
// there: each has a leader who knows their heads.
type lane struct {
	region     string
	partitions uint64 // a bit each, next to each other
}

// split returns the lanes that this one must be if the other region has so many groups.
func (n lane) split(groups int) (all []lane) {
	if groups < 1 || crdt.Partitions%groups != 0 { // no region has so many: some partitions would be in no lane
		return []lane{n}
	}
	for g, width := 0, crdt.Partitions/groups; g < groups; g++ {
		if p := n.partitions & ((^uint64(0) >> (crdt.Partitions - width)) << (g * width)); p != 0 {
			all = append(all, lane{n.region, p})
		}
	}
	return all
}

// name is the first partition and the last.
func (n lane) name() string {
	return fmt.Sprintf("%d-%d", bits.TrailingZeros64(n.partitions), bits.Len64(n.partitions)-1)
}

// asking has a stream ask for the lane's partitions.
func (n lane) asking(ctx context.Context) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx, acceptLabel, acceptBundle, acceptLabel, acceptZstd)
	if n.partitions == feeds.All {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, partsLabel, fmt.Sprintf("%016x", n.partitions))
}

// asked returns the partitions that a stream asks for.
func asked(md metadata.MD) (uint64, error) {
	v := first(md, partsLabel)
	if v == "" {
		return feeds.All, nil
	}
	p, err := strconv.ParseUint(v, 16, 64)
	if err == nil && p == 0 {
		err = errors.New("no partitions")
	}
	return p, err
}

// want notes that a lane is to have a link.
func (l *Links) want(n lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.links[n] = nil
	l.quiet.Follow(n.region, n.partitions, time.Now())
	l.show(n.region)
}

// unwant ends that.
func (l *Links) unwant(n lane) {
	l.lag.forget(n)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.links, n)
	l.quiet.Leave(n.region, n.partitions)
	l.show(n.region)
}

// show says whether a region is followed: all of it that is to be. A node that has nothing to follow says nothing. mu is
// held.
func (l *Links) show(region string) {
	up := 0.0
	if l.up(region, 0) {
		up = 1
	}
	for n := range l.links {
		if n.region == region && !l.givenUp(region) {
			l.metrics.up.WithLabelValues(region).Set(up)
			return
		}
	}
	l.metrics.up.DeleteLabelValues(region)
}

// givenUp reports whether a region was evicted and is not back: it is dialed, since it is to hear of that, and nobody waits for it.
func (l *Links) givenUp(region string) bool {
	p := l.cfg.Pool
	return p != nil && p.cfg.Roster != nil && p.cfg.Roster.Evictions(0).Out(region)
}

// up reports whether there are links to a region for all partitions of a set, or, for none, for all that are wanted. mu is
// held.
func (l *Links) up(region string, partitions uint64) bool {
	wanted, have := partitions, uint64(0)
	for n, k := range l.links {
		if n.region != region {
			continue
		}
		if partitions == 0 {
			wanted |= n.partitions
		}
		if k != nil {
			have |= n.partitions
		}
	}
	return wanted != 0 && wanted&^have == 0
}

// linked makes a link the one of its lane, when its first heads have come, and returns the regions that can be had of its
// partitions without a relay.
func (l *Links) linked(k *link) (up map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, wanted := l.links[k.lane]; wanted && was != k {
		l.links[k.lane] = k
		l.cfg.Logger.Info("link up", "peer", k.region, "partitions", k.name())
		l.cfg.Pool.greet(k.region, k.addr)
		l.show(k.region)
	}
	up = map[string]bool{}
	for n := range l.links {
		up[n.region] = l.up(n.region, k.partitions)
	}
	return up
}

func (l *Links) unlink(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.links[k.lane] == k {
		l.links[k.lane] = nil
		l.show(k.region)
	}
}

// forksOf returns what was found of a lane's feeds, by the links before.
func (l *Links) forksOf(n lane) feeds.Forks {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.forks[n] == nil {
		l.forks[n] = feeds.Forks{}
	}
	return l.forks[n]
}
