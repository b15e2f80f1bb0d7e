// Command run plays scenarios on a wide-area network of its own, and prints what clients felt as a table and a picture.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/roamsync/roam/internal/wan"
)

type options struct {
	cfg                       wan.Config
	scenario, picture, tables string
	short, list               bool
	minutes                   float64
	times                     int
}

// memoryLimit is from how many bytes on garbage is collected while a load runs: one of a minute at 2,000 messages a second makes three quarters of it.
const memoryLimit = 4 << 30

func main() {
	var o options
	flag.BoolVar(&o.short, "short", false, "the short scenarios, one after the other in the same regions")
	flag.StringVar(&o.scenario, "scenario", "", "only these: `NAME,...`; NAME@RATE has so many messages a second")
	flag.BoolVar(&o.list, "list", false, "list the scenarios")
	flag.Float64Var(&o.minutes, "minutes", 0, "begin no other scenario after so many `minutes`; 0: all")
	flag.StringVar(&o.cfg.Roam, "roam", "bin/roam", "the `program`")
	flag.IntVar(&o.cfg.Regions, "regions", 3, "how many `regions`, 2 to 4")
	flag.IntVar(&o.cfg.Nodes, "nodes", 1, "how many `nodes` a region has where the scenario does not say: 1, 3 or 5")
	flag.DurationVar(&o.cfg.Delay, "delay", 20*time.Millisecond, "one-way `delay` between regions")
	flag.IntVar(&o.cfg.Payload, "payload", 256, "`bytes` of a message")
	flag.IntVar(&o.cfg.Behind, "behind", 0, "`ops` that a region misses in catchup; 0: 20,000 with -short, else 1,000,000")
	flag.IntVar(&o.cfg.Trials, "trials", 0, "`moves` of each kind in resume; 0: 20 with -short, else 200")
	flag.BoolVar(&o.cfg.Memory, "memory", false, "on the network in memory, though namespaces may be permitted")
	flag.StringVar(&o.cfg.Congestion, "congestion", "cubic", "TCP congestion control between nodes, by `name`, or auto, as of --peer-congestion: Linux's own default, so that runs compare; empty: the machine's")
	flag.IntVar(&o.times, "times", 1, "each scenario so many `times`, with a seed of its own, from -seed on")
	flag.Uint64Var(&o.cfg.Seed, "seed", 1, "`seed` of what is lost, when clients talk, and what happens in random")
	flag.StringVar(&o.cfg.Logs, "logs", "", "`directory` for what the nodes said")
	flag.StringVar(&o.picture, "picture", "bin/wan.svg", "`file` for the picture; empty: none")
	flag.StringVar(&o.tables, "markdown", "", "`file` for the table as Markdown")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// Clients and wires of all regions are in this one process. What wakes finds a processor to run on though the machine gives none to another
	// that was begun. What is kept of every message is not looked through while a load runs, which would take all processors for a second, but between
	// scenarios, and when there is too much.
	runtime.GOMAXPROCS(8 * runtime.NumCPU())
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	code := run(ctx, &o)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, o *options) int {
	if err := o.choose(); err != nil {
		fmt.Fprintln(os.Stderr, "wan:", err)
		return 2
	}
	if o.list {
		for _, sc := range o.cfg.Scenarios {
			fmt.Printf("%-12s %4.0f s  %s\n", sc.Name, sc.Length.Seconds(), sc.What())
		}
		return 0
	}
	if o.minutes > 0 {
		o.cfg.Until = time.Now().Add(time.Duration(o.minutes * float64(time.Minute)))
	}
	rep, err := wan.Run(ctx, o.cfg)
	if rep != nil {
		err = errors.Join(err, o.show(rep))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wan:", err)
		return 1
	}
	if wrong := rep.Wrong(); wrong != "" {
		fmt.Fprintln(os.Stderr, "wan: promises were broken:", wrong)
		return 1
	}
	return 0
}

// choose fills in what depends on other flags.
func (o *options) choose() (err error) {
	o.cfg.Out, o.cfg.Shared, o.cfg.Scenarios = os.Stderr, o.short, wan.Long()
	behind, trials := 1_000_000, 200
	if o.short {
		o.cfg.Scenarios, behind, trials = wan.Short(), 20_000, 20
	}
	if o.cfg.Behind == 0 {
		o.cfg.Behind = behind
	}
	if o.cfg.Trials == 0 {
		o.cfg.Trials = trials
	}
	if o.scenario != "" {
		if o.cfg.Scenarios, err = pick(o.cfg.Scenarios, strings.Split(o.scenario, ",")); err != nil {
			return err
		}
	}
	if o.times < 1 {
		return fmt.Errorf("-times %d: at least 1", o.times)
	}
	if o.times > 1 {
		var all []wan.Scenario
		for _, sc := range o.cfg.Scenarios {
			all = append(all, sc.Times(o.times, o.cfg.Seed)...)
		}
		o.cfg.Scenarios = all
	}
	if o.list {
		return nil
	}
	if o.cfg.Roam, err = exec.LookPath(o.cfg.Roam); err != nil {
		return fmt.Errorf("-roam: %w (make build)", err)
	}
	o.cfg.Roam, err = filepath.Abs(o.cfg.Roam)
	return err
}

// pick returns the scenarios of some names: NAME, or NAME@RATE.
func pick(all []wan.Scenario, names []string) (some []wan.Scenario, err error) {
	for _, name := range names {
		name, at, other := strings.Cut(name, "@")
		i := slices.IndexFunc(all, func(sc wan.Scenario) bool { return sc.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no scenario %q: -list shows them", name)
		}
		sc := all[i]
		if other {
			rate, err := strconv.ParseFloat(at, 64)
			if err != nil || !(rate > 0 && rate < 1e6) || sc.Rate == 0 {
				return nil, fmt.Errorf("%s@%s: RATE is messages a second, of a scenario that has a load", name, at)
			}
			sc = sc.At(rate)
		}
		some = append(some, sc)
	}
	return some, nil
}

// show prints the table, and writes the files.
func (o *options) show(rep *wan.Report) error {
	fmt.Println()
	errs := []error{rep.Print(os.Stdout)}
	for _, f := range []struct {
		name  string
		write func(*os.File)
	}{{o.picture, func(f *os.File) { rep.Picture(f) }}, {o.tables, func(f *os.File) { rep.Markdown(f) }}} {
		if f.name == "" || len(rep.Rows) == 0 {
			continue
		}
		file, err := os.Create(f.name)
		if err == nil {
			f.write(file)
			err = file.Close()
			fmt.Printf("written: %s\n", f.name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
