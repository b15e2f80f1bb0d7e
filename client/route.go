package client

import (
	"cmp"
	"slices"
	"time"
)

// Region is where to connect.
type Region struct {
	Name string // empty in a Config: the region tells its own, and is called by its URL until it has
	URL  string // ws:// or wss://, path included
	// State is "up", "draining" or "down" as a region last said; empty counts as up.
	State string
	// URLs are those of its nodes, if there are several. They are tried in turn.
	URLs []string
}

const (
	backoffMin = 500 * time.Millisecond
	backoffMax = 30 * time.Second
	// failuresPerRegion in one region, and the next one is tried.
	failuresPerRegion = 2
	// stableAfter is how long a connection must have lived, from its welcome, for its end not to count as a failure of the region.
	stableAfter = 10 * time.Second
	// servedAfter is after how long the next wait is the shortest again, and servedTries the most failures in a row that count for it after any welcome: who
	// is served is not to stay away for long, whatever happens to one node after the other.
	servedAfter = time.Second
	servedTries = 2
	// maxRegions bounds the list a region may give; what is beyond is ignored.
	maxRegions = 64
)

// route decides where to connect next, and when.
type route struct {
	given   []Region // by the configuration
	regions []Region // in use
	at      int      // index of the current one
	node    int      // of the current one's URLs
	fails   int      // in the current one
	tries   int      // in a row, in all
}

func newRoute(given []Region) route {
	return route{given: named(given), regions: named(given)}
}

func (r *route) current() Region {
	g := r.regions[r.at]
	if len(g.URLs) > 0 {
		g.URL = g.URLs[r.node%len(g.URLs)]
	}
	return g
}

// named calls regions without a name by their URL.
func named(given []Region) []Region {
	given = slices.Clone(given)
	for i := range given {
		given[i].Name = cmp.Or(given[i].Name, given[i].URL)
	}
	return given
}

// nameless reports whether a region has not told its name yet.
func (g Region) nameless() bool { return g.Name == g.URL }

// called gives the current region, if it was nameless, the name that it tells.
func (r *route) called(name string) {
	now := r.regions[r.at]
	if !now.nameless() || name == "" {
		return
	}
	r.regions[r.at].Name = name
	for i := range r.given {
		if r.given[i].Name == now.Name {
			r.given[i].Name = name
		}
	}
}

// same reports whether a region of the configuration is one that a region told of.
func same(given, told Region) bool {
	return told.Name == given.Name || given.nameless() && (told.URL == given.URL || slices.Contains(told.URLs, given.URL))
}

// learn takes the name and the list that the current region gave. Regions of the configuration that it leaves out stay, at
// the end: a region that has just started knows of no other yet. The current region stays current.
func (r *route) learn(self string, list []Region) {
	r.called(self)
	list = slices.DeleteFunc(slices.Clone(list), func(g Region) bool { return g.URL == "" || g.Name == "" })
	list = list[:min(len(list), maxRegions)]
	for _, g := range r.given {
		if !slices.ContainsFunc(list, func(h Region) bool { return same(g, h) }) {
			list = append(list, g)
		}
	}
	name := r.current().Name
	r.regions, r.at, r.node = list, 0, 0
	r.prefer(name)
}

// prefer makes a region the current one.
func (r *route) prefer(name string) bool {
	i := slices.IndexFunc(r.regions, func(g Region) bool { return g.Name == name })
	if i < 0 {
		return false
	}
	if i != r.at {
		r.at, r.node, r.fails = i, 0, 0
	}
	return true
}

// to are the ways to a region; none if it is not known any more.
func (r *route) to(name string) []Region {
	i := slices.IndexFunc(r.regions, func(g Region) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return r.regions[i].ways(0)
}

// target adds or updates the region that a `move` names.
func (r *route) target(to moveTarget) Region {
	g := Region{Name: to.Region, URL: to.URL}
	if i := slices.IndexFunc(r.regions, func(g Region) bool { return g.Name == to.Region }); i >= 0 {
		if g.URL == "" {
			g.URL = r.regions[i].URL
		}
		r.regions[i].URL = g.URL
	} else if len(r.regions) < maxRegions && g.URL != "" && g.Name != "" {
		r.regions = append(r.regions, g)
	}
	return g
}

// ended takes the end of a connection to a region, or of the try to make one, that had lived so long since its welcome: 0 if there was none. It counts
// against the region only if that still is the current one. The region's next node is tried before another region.
func (r *route) ended(from string, lived time.Duration) {
	if r.current().Name == from {
		r.node++
	}
	switch r.tries++; {
	case lived >= servedAfter:
		r.tries = 0
	case lived > 0:
		r.tries = min(r.tries, servedTries)
	}
	if lived >= stableAfter {
		r.fails = 0
		return
	}
	if r.current().Name != from {
		return
	}
	if r.fails++; r.fails >= failuresPerRegion {
		r.fails = 0
		if next := r.next(); next != r.at {
			r.at, r.node = next, 0
		}
	}
}

// next is the region after the current one that is up; if none is, simply the next.
func (r *route) next() int {
	for i := 1; i < len(r.regions); i++ {
		j := (r.at + i) % len(r.regions)
		if s := r.regions[j].State; s == "" || s == "up" {
			return j
		}
	}
	return (r.at + 1) % len(r.regions)
}

// backoff is how long to wait before the next try; dice is uniform in [0, 1) (full jitter).
func (r *route) backoff(dice float64) time.Duration {
	limit := backoffMin
	for i := 1; i < r.tries && limit < backoffMax; i++ {
		limit *= 2
	}
	return time.Duration(dice * float64(min(limit, backoffMax)))
}
