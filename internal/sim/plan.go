package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// Plan is all that a run does from outside: who there is, what users do and what breaks. It follows from a seed; parts of
// it can be left out to find out which matter.
type Plan struct {
	Seed    uint64
	Nodes   []int // by region
	Groups  []int // of Raft, by region; nil: each has one
	Workers int   // in each region; 0: nobody asks anything, and there is no Redis
	Devices []DevicePlan
	Keep    int // entries of a session, about; 0: all
	Length  time.Duration
	Acts    []Act
	Faults  []Fault
	Retain  *machine.Retention // of feeds; nil: all of them are kept
	// Takeover is how long a region must not be heard before others make its answers. 0: they never do.
	Takeover time.Duration
	// TTL is how long a session may be unused before it is purged. 0: for ever.
	TTL time.Duration
	// Removed is for how long ids of what was removed are kept; clients put nothing again after half of that. 0: for ever.
	Removed time.Duration
}

// DevicePlan is one device of a user.
type DevicePlan struct {
	User     int
	Home     int // region
	Sessions []string
}

// Act is something that a user does.
type Act struct {
	At      time.Duration
	Device  int
	Kind    actKind
	Session string
	N       int // what it is about: a region, a choice among entries
	OID     string
}

type actKind string

const (
	actSend    actKind = "send"
	actAsk     actKind = "ask"
	actSet     actKind = "set"
	actEdit    actKind = "edit"
	actDelete  actKind = "delete"
	actReact   actKind = "react"
	actRead    actKind = "read"
	actStop    actKind = "stop"
	actMove    actKind = "move"    // to region N
	actDrop    actKind = "drop"    // the connection breaks
	actOffline actKind = "offline" // and comes back after N ms
	actRestart actKind = "restart" // of the device's program: what is not in its outbox is gone
	actClose   actKind = "close"   // a session, and open it again
	actOlder   actKind = "older"   // ask for entries before those that are shown
	actForget  actKind = "forget"  // a session
)

// Fault is something that breaks, and for how long.
type Fault struct {
	At, For time.Duration
	Kind    faultKind
	Region  int
	N       int // another region, a node, or a choice
}

type faultKind string

const (
	faultCut      faultKind = "cut"       // both ways to region N
	faultCutOne   faultKind = "cut1"      // one way to region N
	faultAlone    faultKind = "alone"     // both ways to all regions
	faultLossy    faultKind = "lossy"     // messages to region N are lost, doubled and held up
	faultCrash    faultKind = "crash"     // of a node
	faultQuit     faultKind = "quit"      // a node's process, in order
	faultCrashAll faultKind = "crash all" // of a region's nodes
	faultDisk     faultKind = "disk"      // of a node is lost
	faultBurn     faultKind = "burn"      // all disks of a region are lost
	faultBack     faultKind = "roll back" // the disk of a region of one node
	faultIsolate  faultKind = "isolate"   // a node from the others of its region
	faultPause    faultKind = "pause"
	faultSlow     faultKind = "slow"
	faultStall    faultKind = "stall"  // of the leader's disk
	faultShaky    faultKind = "shaky"  // commits whose proposer does not hear of them
	faultClock    faultKind = "clock"  // jumps
	faultWipe     faultKind = "wipe"   // of Redis
	faultRedis    faultKind = "redis"  // is away
	faultWorker   faultKind = "worker" // dies
	faultStuck    faultKind = "stuck"  // a worker, that does not know it
	faultAccess   faultKind = "access" // clients cannot reach a region
	faultGone     faultKind = "gone"   // a region, until all else is well and its answers were made elsewhere
	faultEvict    faultKind = "evict"  // a region is away, is given up, and comes back
	faultImage    faultKind = "image"  // the disk of a node of three goes back, while another one is down
)

var allFaults = []faultKind{
	faultCut, faultCut, faultCutOne, faultCutOne, faultAlone, faultLossy, faultCrash, faultCrash, faultQuit, faultCrashAll, faultDisk,
	faultBurn, faultBack, faultIsolate, faultPause, faultSlow, faultStall, faultShaky, faultClock, faultWipe, faultRedis,
	faultWorker, faultWorker, faultStuck, faultAccess,
}

// NewPlan draws the plan of a seed.
func NewPlan(seed uint64) *Plan {
	r := dice(seed, "plan")
	p := &Plan{Seed: seed, Workers: pick(r, []int{0, 0, 0, 1, 2}), Length: between(r, 30*time.Second, 80*time.Second)}
	if r.IntN(12) == 0 {
		p.Length = between(r, 3*time.Minute, 6*time.Minute) // cuts of minutes
	}
	for range pick(r, []int{2, 2, 2, 2, 3, 3, 3, 3, 4, 5}) {
		p.Nodes = append(p.Nodes, pick(r, []int{1, 1, 3}))
	}
	p.drawGroups(dice(seed, "groups"))
	p.drawRetention(dice(seed, "retention"))
	p.drawDevices(r)
	p.drawActs(dice(seed, "acts"))
	p.drawOlder(dice(seed, "older"))
	p.drawRemovals(dice(seed, "removals"))
	p.drawFaults(dice(seed, "faults"))
	p.drawUnread(dice(seed, "unread"))
	p.drawTakeover(dice(seed, "takeover"))
	p.TTL = pick(dice(seed, "ttl"), []time.Duration{0, 0, time.Second, 3 * time.Second, 10 * time.Second})
	p.drawEvictions(dice(seed, "evictions"))
	p.drawExpiry(dice(seed, "expiry"))
	p.drawImages()
	return p
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func (p *Plan) drawDevices(r *rand.Rand) {
	for user := range 1 + r.IntN(2) {
		var sessions []string
		for s := range 1 + r.IntN(2) {
			sessions = append(sessions, p.session(user, s))
		}
		for range 1 + r.IntN(3) {
			p.Devices = append(p.Devices, DevicePlan{User: user, Home: r.IntN(len(p.Nodes)), Sessions: sessions})
		}
	}
}

// drawRetention has half of the runs drop what every region has, and what some may not have yet.
func (p *Plan) drawRetention(r *rand.Rand) {
	if r.IntN(2) == 0 {
		p.Retain = &machine.Retention{Ops: pick(r, []uint64{0, 1, 3, 10, 40}), Slack: pick(r, []uint64{0, 0, 2})}
	}
}

// session names a session. Where states are transferred all are of one partition, so that there is more than one to each. Where regions have several
// groups, those of a user are of one group everywhere, so that the user's devices each need one connection.
func (p *Plan) session(user, n int) string {
	name, group := fmt.Sprintf("u%d/s%d", user, n), uint8(0)
	if p.Groups != nil {
		group = uint8((user + mostGroups - 1) % mostGroups) // the last, and the first
	}
	fits := func(at uint8) bool {
		switch {
		case p.Retain != nil:
			return at == group*(crdt.Partitions/mostGroups)
		case p.Groups != nil:
			return at/(crdt.Partitions/mostGroups) == group
		}
		return true
	}
	for more := 0; !fits(crdt.PartitionOf(name)); more++ {
		name = fmt.Sprintf("u%d/s%d.%d", user, n, more)
	}
	return name
}

// mostGroups is how many groups a region has at most.
const mostGroups = 4

// drawGroups has regions be shared by several groups in some runs.
func (p *Plan) drawGroups(r *rand.Rand) {
	if r.IntN(6) > 0 {
		return
	}
	for range p.Nodes {
		p.Groups = append(p.Groups, pick(r, []int{1, 2, 2, mostGroups}))
	}
}

// groups is how many a region has.
func (p *Plan) groups(region int) int {
	if p.Groups == nil {
		return 1
	}
	return p.Groups[region]
}

var allActs = []actKind{
	actSend, actSend, actSend, actSend, actSend, actSend, actSet, actSet, actSet, actAsk, actAsk, actEdit, actDelete, actReact,
	actRead, actStop, actMove, actMove, actDrop, actOffline, actRestart, actClose,
}

// drawActs has users act now and then, and sometimes several at once: ties have to be decided somehow.
func (p *Plan) drawActs(r *rand.Rand) {
	gap := between(r, 300*time.Millisecond, 2*time.Second)
	for at := time.Second; at < p.Length; at += between(r, time.Millisecond, 2*gap).Truncate(time.Millisecond) {
		times := 1
		if r.IntN(6) == 0 {
			times = 2 + r.IntN(6)
		}
		kind, same := pick(r, allActs), r.IntN(2) == 0
		for range times {
			d := r.IntN(len(p.Devices))
			if !same {
				kind = pick(r, allActs)
			}
			if p.Workers == 0 && (kind == actAsk || kind == actStop) {
				kind = actSend
			}
			p.Acts = append(p.Acts, Act{
				At: at, Device: d, Kind: kind, Session: pick(r, p.Devices[d].Sessions), N: r.IntN(1 << 16),
				OID: fmt.Sprintf("o%d-%04d", d, len(p.Acts)),
			})
		}
	}
}

// drawOlder has users look at what is older.
func (p *Plan) drawOlder(r *rand.Rand) {
	for range r.IntN(8) {
		d := r.IntN(len(p.Devices))
		p.Acts = append(p.Acts, Act{
			At: between(r, time.Second, p.Length), Device: d, Kind: actOlder, Session: pick(r, p.Devices[d].Sessions), N: r.IntN(1 << 16),
		})
	}
	slices.SortStableFunc(p.Acts, func(a, b Act) int { return int(a.At - b.At) })
}

// drawRemovals has some runs trim their sessions, and some users forget one now and then.
func (p *Plan) drawRemovals(r *rand.Rand) {
	p.Keep = pick(r, []int{0, 0, 5, 12, 30})
	for i := range pick(r, []int{0, 0, 1, 2, 4}) {
		d := r.IntN(len(p.Devices))
		p.Acts = append(p.Acts, Act{
			At: between(r, time.Second, p.Length).Truncate(time.Millisecond), Device: d, Kind: actForget,
			Session: pick(r, p.Devices[d].Sessions), OID: fmt.Sprintf("f%d-%d", d, i),
		})
	}
	slices.SortStableFunc(p.Acts, func(a, b Act) int { return int(a.At - b.At) })
}

func (p *Plan) drawFaults(r *rand.Rand) {
	kinds := slices.Clone(allFaults)
	if p.Workers == 0 {
		kinds = slices.DeleteFunc(kinds, func(k faultKind) bool {
			return k == faultWipe || k == faultRedis || k == faultWorker || k == faultStuck
		})
	}
	if r.IntN(3) > 0 { // most runs have a few kinds, and those more often
		r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		kinds = kinds[:2+r.IntN(5)]
	}
	for range r.IntN(14) {
		longest := pick(r, []time.Duration{time.Second, 5 * time.Second, 20 * time.Second, 20 * time.Second, p.Length})
		p.Faults = append(p.Faults, Fault{
			At: between(r, 500*time.Millisecond, p.Length), For: between(r, time.Millisecond, longest), Kind: pick(r, kinds),
			Region: r.IntN(len(p.Nodes)), N: r.IntN(1 << 16),
		})
	}
	p.sortFaults()
}

// drawUnread has Redis lose, in some runs, the beginnings of answers that a region has not read yet, because it is paused, and keep
// their ends.
func (p *Plan) drawUnread(r *rand.Rand) {
	if p.Workers == 0 || r.IntN(4) > 0 {
		return
	}
	for i := range p.Acts {
		a := &p.Acts[i]
		if a.Kind != actAsk || r.IntN(2) == 0 {
			continue
		}
		at, region := a.At+between(r, 100*time.Millisecond, time.Second), p.Devices[a.Device].Home
		pause := Fault{At: at, For: between(r, 500*time.Millisecond, 2*time.Second), Kind: faultPause, Region: region, N: r.IntN(1 << 16)}
		p.Faults = append(p.Faults, pause, Fault{At: at + between(r, 0, pause.For), Kind: faultWipe, Region: region})
	}
	p.sortFaults()
}

// drawTakeover has regions make the answers of others that are not heard, and in some runs one region go in mid-answer and not come back
// until that has happened.
func (p *Plan) drawTakeover(r *rand.Rand) {
	if p.Workers == 0 {
		return
	}
	p.Takeover = pick(r, []time.Duration{0, 4 * time.Second, 10 * time.Second, 30 * time.Second})
	asks := slices.DeleteFunc(slices.Clone(p.Acts), func(a Act) bool { return a.Kind != actAsk })
	if p.Takeover == 0 || len(asks) == 0 || r.IntN(3) == 0 {
		return
	}
	a := pick(r, asks)
	p.Faults = append(p.Faults, Fault{
		At: a.At + between(r, 0, 3*time.Second), For: p.Length, Kind: faultGone, Region: p.Devices[a.Device].Home, N: r.IntN(1 << 16),
	})
	p.sortFaults()
}

// drawEvictions has an operator give up a region in some runs.
func (p *Plan) drawEvictions(r *rand.Rand) {
	times := pick(r, []int{0, 0, 0, 1, 1, 2, 3})
	if p.Groups != nil {
		times = max(times, 1)
	}
	for range times {
		p.Faults = append(p.Faults, Fault{
			At: between(r, 2*time.Second, p.Length-8*time.Second), For: between(r, 5*time.Second, 40*time.Second), Kind: faultEvict,
			Region: r.IntN(len(p.Nodes)), N: r.IntN(1 << 16),
		})
	}
	p.sortFaults()
}

func (p *Plan) sortFaults() {
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return int(a.At - b.At) })
}

// drawExpiry has ids of what was removed forgotten in some runs. Clocks are then never wrong by more than a fraction of the time, as clocks are.
func (p *Plan) drawExpiry(r *rand.Rand) {
	p.Removed = pick(r, []time.Duration{0, 0, 12 * time.Second, 20 * time.Second})
	if p.Removed == 0 {
		return
	}
	for i := range p.Faults {
		if f := &p.Faults[i]; f.Kind == faultClock {
			f.N -= f.N % 3
		}
	}
}

func (f *Fault) String() string {
	return fmt.Sprintf("%s in %s for %s (%d)", f.Kind, regionNames[f.Region], f.For, f.N)
}
