package wan

import (
	"fmt"
	"time"
)

// Scenario is a load and what happens meanwhile. Regions are numbered from 0 on.
type Scenario struct {
	Name, About string
	Kind        Kind
	Length      time.Duration // of the load
	Rate        float64       // messages a second, of all regions together
	Sessions    int
	Asks        float64 // share of messages that ask for an answer
	Nodes       int     // of a region; 0: as the rig is told
	Base        Shape   // of all ways, on top of what is normal
	Acts        []Act
	Random      bool   // Acts are the seed's
	Seed        uint64 // 0: the rig's
	Watched     bool   // a checker reads every frame
	Goals       []Goal
}

// Kind is what is measured.
type Kind int

const (
	Load    Kind = iota // what clients feel under load, while acts happen
	Idle                // what regions say to each other when nothing happens
	Resume              // what a device waits for after a move
	CatchUp             // how fast a region that was cut off gets what it has missed
	Redis               // the load of Load, with Redis replication in place of Roam
)

// Act is something that happens to the world at a moment of the load.
type Act struct {
	At     time.Duration
	Do     Deed
	From   int // region, or Any
	To     int
	Both   bool          // ways: also that back
	Shape  Shape         // ways: what is other than normal; the zero value heals
	Offset time.Duration // Skew
	Node   int           // Kill, Start: the one of that number, from 1 on; 0: all
	Share  float64       // Travel: of the people
	Hard   bool          // Travel: the network that they leave is gone at once
}

// Deed is what is done.
type Deed int

const (
	Set    Deed = iota // the ways From → To get Shape
	Kill               // nodes of From lose power
	Wipe               // the disks of From are new ones
	Start              // nodes of From start
	Skew               // the nodes of From stop, and start with a clock that is off by Offset
	Freeze             // the nodes of From stand still
	Thaw               // and go on
	Travel             // people who are in From's network go to that of To
)

// Any is every region.
const Any = -1

// Goal is what a figure should be at most: Times one-way delays and Plus.
type Goal struct {
	What  string // ok p50, ok p99, delivered p50, delivered p99
	Times float64
	Plus  time.Duration
}

// speed are the goals of a link that is well.
var speed = []Goal{{"delivered p50", 1, 5 * time.Millisecond}, {"delivered p99", 1, 25 * time.Millisecond}}

const second = time.Second

// both cuts, or heals with the zero Shape, the ways between two regions.
func both(at time.Duration, a, b int, s Shape) Act {
	return Act{At: at, From: a, To: b, Both: true, Shape: s}
}

// isolate cuts a region off from all others, or joins it again.
func isolate(at time.Duration, region int, s Shape) Act { return both(at, region, Any, s) }

var cut = Shape{Cut: true}

// flap cuts and heals a link, each for some time.
func flap(from, to time.Duration, a, b int, each time.Duration) (acts []Act) {
	for at := from; at < to; at += 2 * each {
		acts = append(acts, both(at, a, b, cut), both(at+each, a, b, Shape{}))
	}
	return acts
}

// Long is what `make wan` runs.
func Long() []Scenario {
	return []Scenario{
		{Name: "idle", About: "nobody says anything", Kind: Idle, Length: 30 * second},
		{Name: "steady", About: "all is well", Length: 60 * second, Rate: 2000, Sessions: 200, Goals: speed},
		{Name: "loss1", About: "1 % of the packets are lost", Length: 60 * second, Rate: 2000, Sessions: 200, Base: Shape{Loss: 0.01},
			Goals: []Goal{{"delivered p99", 3, 25 * time.Millisecond}}},
		{Name: "loss5", About: "5 % lost, 1 % twice, jitter of 5 ms", Length: 60 * second, Rate: 500, Sessions: 100,
			Base: Shape{Loss: 0.05, Duplicate: 0.01, Jitter: 5 * time.Millisecond}},
		{Name: "spell", About: "1 % of the packets are lost from 15 s to 35 s", Length: 60 * second, Rate: 2000, Sessions: 200,
			Acts: []Act{both(15*second, Any, Any, Shape{Loss: 0.01}), both(35*second, Any, Any, Shape{})}},
		{Name: "nodes3", About: "regions of three nodes", Nodes: 3, Length: 60 * second, Rate: 1000, Sessions: 100, Goals: speed},
		{Name: "cut", About: "a region is cut off for 20 s", Length: 60 * second, Rate: 200, Sessions: 60, Asks: 0.02, Watched: true,
			Acts: []Act{isolate(15*second, 2, cut), isolate(35*second, 2, Shape{})}},
		{Name: "longcut", About: "a region is cut off for 100 s: membership forgets it", Length: 150 * second, Rate: 200, Sessions: 60, Watched: true,
			Acts: []Act{isolate(15*second, 2, cut), isolate(115*second, 2, Shape{})}},
		{Name: "oneway", About: "nothing comes from one region to another for 20 s", Length: 50 * second, Rate: 200, Sessions: 60, Asks: 0.02, Watched: true,
			Acts: []Act{{At: 15 * second, From: 0, To: 1, Shape: cut}, {At: 35 * second, From: 0, To: 1}}},
		{Name: "partial", About: "two regions do not reach each other for 20 s; the third relays", Length: 50 * second, Rate: 200, Sessions: 60, Watched: true,
			Acts: []Act{both(15*second, 0, 1, cut), both(35*second, 0, 1, Shape{})}},
		{Name: "flap", About: "a link goes away and comes back every 2 s for 30 s", Length: 60 * second, Rate: 200, Sessions: 60, Watched: true,
			Acts: flap(15*second, 45*second, 0, 1, 2*second)},
		{Name: "kill", About: "a region loses power for 15 s", Length: 50 * second, Rate: 200, Sessions: 60, Watched: true,
			Acts: []Act{{At: 15 * second, Do: Kill, From: 2}, {At: 30 * second, Do: Start, From: 2}}},
		{Name: "rebuild", About: "a region loses power and all disks, and starts on empty ones", Length: 50 * second, Rate: 200, Sessions: 60, Watched: true,
			Acts: []Act{{At: 15 * second, Do: Kill, From: 2}, {At: 20 * second, Do: Wipe, From: 2}, {At: 25 * second, Do: Start, From: 2}}},
		{Name: "skew", About: "a region's clock is 90 s ahead, then 90 s behind", Length: 60 * second, Rate: 200, Sessions: 60, Watched: true,
			Acts: []Act{{At: 10 * second, Do: Skew, From: 2, Offset: 90 * second}, {At: 30 * second, Do: Skew, From: 2, Offset: -90 * second},
				{At: 50 * second, Do: Skew, From: 2}}},
		{Name: "slow", About: "a region behind 100 ms, jitter of 30 ms and 200 KB/s for 30 s", Length: 60 * second, Rate: 200, Sessions: 60, Watched: true,
			Acts: []Act{isolate(15*second, 2, Shape{Delay: 100 * time.Millisecond, Jitter: 30 * time.Millisecond, Rate: 200_000}), isolate(45*second, 2, Shape{})}},
		{Name: "random", About: "faults of all kinds as the seed has it, and people who travel", Length: 300 * second, Rate: 150, Sessions: 40, Asks: 0.03,
			Random: true, Watched: true},
		{Name: "resume", About: "a device moves: 20 unread in a session of 1,000", Kind: Resume, Length: 30 * second},
		{Name: "catchup", About: "a region has missed many ops", Kind: CatchUp, Length: 180 * second, Rate: 200, Sessions: 60},
		{Name: "redis", About: "the load of steady, with Redis replication and WAIT", Kind: Redis, Length: 60 * second, Rate: 2000, Sessions: 200},
	}
}

// At is the scenario at another rate of messages, with as many sessions for each of them.
func (s Scenario) At(rate float64) Scenario {
	s.Name, s.Sessions, s.Rate = fmt.Sprintf("%s-%g", s.Name, rate), max(1, int(float64(s.Sessions)*rate/s.Rate)), rate
	return s
}

// Times is the scenario n times, each with a seed of its own, from first on.
func (s Scenario) Times(n int, first uint64) (all []Scenario) {
	for i := range uint64(n) {
		one := s
		one.Name, one.Seed = fmt.Sprintf("%s-seed%d", s.Name, first+i), first+i
		all = append(all, one)
	}
	return all
}

// What says what happens in it.
func (s Scenario) What() string {
	if s.Rate == 0 {
		return s.About
	}
	return fmt.Sprintf("%s; %g messages a second", s.About, s.Rate)
}

// Short is what CI runs: what finds most in little time, one after the other in the same regions.
func Short() []Scenario {
	return []Scenario{
		{Name: "idle", About: "nobody says anything", Kind: Idle, Length: 4 * second},
		{Name: "steady", About: "all is well", Length: 6 * second, Rate: 500, Sessions: 30, Goals: speed},
		{Name: "loss5", About: "5 % lost, 1 % twice, jitter of 5 ms", Length: 6 * second, Rate: 200, Sessions: 20, Watched: true,
			Base: Shape{Loss: 0.05, Duplicate: 0.01, Jitter: 5 * time.Millisecond}},
		{Name: "faults", About: "one way cut, then no direct link, then flapping", Length: 16 * second, Rate: 100, Sessions: 20, Asks: 0.05, Watched: true,
			Acts: append([]Act{{At: 1 * second, From: 0, To: 1, Shape: cut}, {At: 5 * second, From: 0, To: 1},
				both(6*second, 0, 1, cut), both(10*second, 0, 1, Shape{})}, flap(11*second, 15*second, 0, 2, second/2)...)},
		{Name: "rebuild", About: "a region is cut off, then loses power and all disks, and starts on empty ones", Length: 14 * second, Rate: 100, Sessions: 20, Watched: true,
			Acts: []Act{isolate(1*second, 2, cut), isolate(4*second, 2, Shape{}), {At: 5 * second, Do: Kill, From: 2},
				{At: 6 * second, Do: Wipe, From: 2}, {At: 7 * second, Do: Start, From: 2}}},
		{Name: "random", About: "faults as the seed has it, and people who travel", Length: 20 * second, Rate: 100, Sessions: 20, Asks: 0.03, Random: true, Watched: true},
		{Name: "resume", About: "a device moves: 20 unread in a session of 1,000", Kind: Resume, Length: 4 * second},
		{Name: "catchup", About: "a region has missed many ops", Kind: CatchUp, Length: 20 * second, Rate: 50, Sessions: 10},
	}
}
