package wan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"
)

// Config says what to run. Scenarios, Roam and Out are needed.
type Config struct {
	Scenarios []Scenario
	Roam      string        // the program
	Regions   int           // 2 to 4; 0: 3
	Nodes     int           // of each region: 1, 3 or 5; 0: 1
	Delay     time.Duration // one way; 0: 20 ms
	Payload   int           // bytes of a message; 0: 256
	Behind    int           // ops that CatchUp has a region miss; 0: 100,000
	Trials    int           // moves of Resume; 0: 50
	Shared    bool          // all scenarios in the same regions, one after the other
	Memory    bool          // on the network in memory, wherever this runs
	// Congestion is the TCP congestion control between nodes in namespaces; empty: the machine's.
	Congestion string
	Until      time.Time // no scenario begins after that; zero: all do
	Seed       uint64
	Logs       string // directory that gets what nodes said; empty: nobody does
	Out        io.Writer
}

// dirPrefix is what the names of the rig's directories begin with; the id of its process follows.
const dirPrefix = "roam-wan-"

var regionNames = []string{"beijing", "shanghai", "chengdu", "guangzhou"}

func (c *Config) check() error {
	set := func(v *int, zero int) {
		if *v == 0 {
			*v = zero
		}
	}
	set(&c.Regions, 3)
	set(&c.Nodes, 1)
	set(&c.Payload, 256)
	set(&c.Behind, 100_000)
	set(&c.Trials, 50)
	if c.Delay == 0 {
		c.Delay = 20 * time.Millisecond
	}
	if c.Regions < 2 || c.Regions > len(regionNames) {
		return fmt.Errorf("regions %d: 2 to %d", c.Regions, len(regionNames))
	}
	if c.Nodes < 1 || c.Nodes > maxNodes || c.Nodes%2 == 0 {
		return fmt.Errorf("nodes %d: 1, 3 or 5", c.Nodes)
	}
	for i := range c.Scenarios {
		if c.Scenarios[i].Nodes == 0 {
			c.Scenarios[i].Nodes = c.Nodes
		}
		for _, a := range c.Scenarios[i].Acts {
			if a.From >= c.Regions || a.To >= c.Regions {
				return fmt.Errorf("scenario %s needs more than %d regions", c.Scenarios[i].Name, c.Regions)
			}
		}
	}
	return nil
}

// rig is one run.
type rig struct {
	Config
	dir    string
	ground ground
	world  *world
	began  int // worlds
	report Report
	crowds int
	saying sync.Mutex // one line at a time: acts and progress speak beside the scenario
}

// Run runs the scenarios, and returns what was found even if something failed. It leaves nothing behind.
func Run(ctx context.Context, cfg Config) (rep *Report, err error) {
	r := &rig{Config: cfg}
	if err := r.check(); err != nil {
		return nil, err
	}
	removed, err := sweep()
	for _, name := range removed {
		r.say("removed what another run had left: %s", name)
	}
	if err != nil {
		return nil, err
	}
	if !r.Memory {
		if err := unable(); err != nil {
			r.say("NO NAMESPACES: %v. The scenarios run on the network in memory, with all nodes in this process.", err)
			r.Memory = true
		}
	} else {
		r.say("IN MEMORY, as asked: no namespaces, no processes; all nodes are in this process.")
	}
	r.dir = filepath.Join(os.TempDir(), fmt.Sprintf("%s%d", dirPrefix, os.Getpid()))
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.end(), os.RemoveAll(r.dir)) }()
	r.report = Report{Started: time.Now(), Config: r.Config}
	for i := range r.Scenarios {
		if ctx.Err() != nil || !r.Until.IsZero() && time.Now().After(r.Until) {
			break
		}
		sc := &r.Scenarios[i]
		r.say("%s: %s", sc.Name, sc.What())
		if err := r.scenario(ctx, sc); err != nil && ctx.Err() == nil {
			r.report.fail(sc, err.Error())
			r.say("%s: %v", sc.Name, err)
			if err := r.end(); err != nil { // the next has regions of its own
				return &r.report, err
			}
		}
	}
	return &r.report, ctx.Err()
}

func (r *rig) say(format string, args ...any) {
	r.saying.Lock()
	defer r.saying.Unlock()
	fmt.Fprintf(r.Out, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// scenario runs one, in regions that are up.
func (r *rig) scenario(ctx context.Context, sc *Scenario) (err error) {
	if err := r.begin(ctx, sc); err != nil {
		return err
	}
	if sc.Seed == 0 {
		sc.Seed = r.Seed
	}
	if sc.Random {
		sc.Acts = randomActs(sc.Length, r.Regions, sc.Nodes, !r.Memory, sc.Seed)
	}
	debug.FreeOSMemory() // not while it is measured: see main
	switch sc.Kind {
	case Load:
		err = r.load(ctx, sc)
	case Idle:
		err = r.idle(ctx, sc)
	case Resume:
		err = r.resume(ctx, sc)
	case CatchUp:
		err = r.catchUp(ctx, sc)
	case Redis:
		err = r.redis(ctx, sc)
	}
	if faults := r.world.faults(); faults != "" {
		err = errors.Join(err, errors.New(faults))
	}
	r.world.heal()
	if err == nil && !r.Shared {
		err = r.end()
	}
	return err
}

// begin starts the regions, unless they are up.
func (r *rig) begin(ctx context.Context, sc *Scenario) (err error) {
	if r.world != nil && len(r.world.regions[0].nodes) == sc.Nodes {
		return nil
	}
	if err := r.end(); err != nil {
		return err
	}
	r.began++
	dir := filepath.Join(r.dir, fmt.Sprint(r.began))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names, host := regionNames[:r.Regions], nodeHost
	if r.Memory {
		host = memoryHost
		r.ground, err = newMemory(dir)
	} else {
		r.ground, err = newKernel(r.Roam, dir, names, os.Getpid(), r.Seed)
	}
	if err != nil {
		return err
	}
	if r.world, err = newWorld(r.ground, dir, names, sc.Nodes, host, Shape{Delay: r.Delay}); err != nil {
		return err
	}
	for _, n := range r.world.nodes() {
		if !r.Memory {
			n.congestion = r.Congestion
		}
	}
	if err := r.redisServers(sc); err != nil {
		return err
	}
	if err := r.world.start(ctx, r.world.nodes()...); err != nil {
		return err
	}
	return r.world.await(ctx, patience, "all regions have met", func() error { return r.world.strangers(ctx) })
}

// redisServers starts a Redis in each region whose nodes cannot have one inside, and where answers are to be made.
func (r *rig) redisServers(sc *Scenario) error {
	k, real := r.ground.(redisGround)
	if !real || sc.Nodes == 1 && sc.Asks == 0 {
		return nil
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		r.say("no redis-server here (Debian: apt-get install redis-server): nodes use what is inside them")
		return nil
	}
	for _, g := range r.world.regions {
		if err := k.serveRedis(g.name, "6379"); err != nil {
			return err
		}
		for _, n := range g.nodes {
			n.redis = true
		}
	}
	return nil
}

// end ends the regions.
func (r *rig) end() error {
	if r.ground == nil {
		return nil
	}
	err := r.ground.Close()
	if r.Logs != "" {
		logs, _ := filepath.Glob(filepath.Join(r.dir, fmt.Sprint(r.began), "*.log"))
		err = errors.Join(err, os.MkdirAll(r.Logs, 0o755))
		for _, from := range logs {
			b, e := os.ReadFile(from)
			err = errors.Join(err, e, os.WriteFile(filepath.Join(r.Logs, fmt.Sprintf("%d-%s", r.began, filepath.Base(from))), b, 0o644))
		}
	}
	err = errors.Join(err, os.RemoveAll(filepath.Join(r.dir, fmt.Sprint(r.began))))
	r.ground, r.world = nil, nil
	return err
}
