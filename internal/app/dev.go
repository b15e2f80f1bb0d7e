package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/internal/app/page"
	"github.com/roamsync/roam/internal/demo"
	"github.com/roamsync/roam/internal/memnet"
)

// dev is `roam dev`: whole regions in this process, joined by a network with delays.
type dev struct {
	opts    DevOptions
	ring    KeyRing
	dir     string // removed in the end
	net     *memnet.Network
	log     *slog.Logger
	regions []*devRegion
	flips   chan flip
	failed  chan struct{}  // holds one a region: it has ended by itself
	running sync.WaitGroup // regions

	mu sync.Mutex
	up map[string]bool // regions that take clients
}

// Dev runs `roam dev` until ctx ends, or until the demo has, if it is to end then.
func Dev(ctx context.Context, o DevOptions, stdout, stderr io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	d := newDev(o, newLogger(stderr, o.LogLevel))
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	var ups []chan struct{}
	for _, r := range d.regions {
		ups = append(ups, d.run(ctx, r, r.node))
	}
	g.Go(func() error { return d.switcher(ctx) })
	g.Go(func() error {
		for i, up := range ups {
			select {
			case <-up:
				d.setUp(d.regions[i].opts.Region, true)
			case <-ctx.Done():
				return nil
			}
		}
		return d.show(ctx, stop, stdout)
	})
	return g.Wait()
}

func newDev(o DevOptions, log *slog.Logger) *dev {
	return &dev{opts: o, log: log, flips: make(chan flip), failed: make(chan struct{}, maxDevRegions), up: map[string]bool{}}
}

func (d *dev) open() (err error) {
	if d.dir, err = os.MkdirTemp("", "roam-dev-"); err != nil {
		return fmt.Errorf("directory for the regions' data: %w", err)
	}
	if d.ring, err = newKeyRing(); err != nil {
		return err
	}
	if d.net, err = memnet.New(memnet.Config{Delay: d.opts.WanDelay}); err != nil {
		return err
	}
	for i, name := range d.opts.Regions {
		n, err := d.openNode(d.options(i, name))
		if err != nil {
			return err
		}
		d.regions = append(d.regions, &devRegion{opts: n.opts, node: n})
	}
	return nil
}

// options are those of a region of one node. Only the client ports are the user's business; the others are free ones.
func (d *dev) options(i int, name string) ServeOptions {
	port := 0
	if d.opts.Port > 0 {
		port = d.opts.Port + i
	}
	return ServeOptions{
		Region: name, Node: "n1", Data: filepath.Join(d.dir, name), BootstrapExpect: 1,
		ClientAddr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), AdminAddr: anyPort, ClusterAddr: anyPort, PeerAddr: anyPort,
		Worker: "echo", Auth: "dev", TakeoverAfter: devTakeover, TraceOptions: d.opts.TraceOptions,
	}
}

// openNode opens a region's node. It joins all other regions that there are.
func (d *dev) openNode(o ServeOptions) (*node, error) {
	o.Redis, o.Join = d.opts.Redis, nil
	for _, other := range d.regions {
		if other.opts.Region != o.Region {
			o.Join = append(o.Join, other.opts.ClusterAddr)
		}
	}
	n, err := newNode(o, d.ring, emulated(d.net, o.Region), d.log.With("region", o.Region))
	if err != nil {
		return nil, fmt.Errorf("region %s: %w", o.Region, err)
	}
	n.page = d.handler(page.Handler(d.pageRegions))
	return n, nil
}

// devTakeover is after how long a region answers for another one that was killed.
const devTakeover = 10 * time.Second

const anyPort = "127.0.0.1:0"

func (d *dev) pageRegions() []page.Region {
	var all []page.Region
	for _, r := range d.regions {
		all = append(all, page.Region{Name: r.opts.Region, URL: r.opts.AdvertiseURL})
	}
	return all
}

// show tells the user where to look, and plays the demo if asked.
func (d *dev) show(ctx context.Context, stop func(), stdout io.Writer) error {
	for _, r := range d.regions {
		printReady(stdout, &r.opts)
	}
	if d.opts.Demo {
		report, err := d.play(ctx, stdout)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !report.OK() {
			return errors.New("demo: messages were lost or doubled")
		}
		if d.opts.Once {
			stop()
			return nil
		}
	}
	fmt.Fprintf(stdout, "\nTry it: http://%s/   (Ctrl-C ends it)\n", d.regions[0].opts.ClientAddr)
	fmt.Fprintln(stdout, "Or in terminals:")
	for _, r := range d.regions[:min(len(d.regions), 2)] {
		fmt.Fprintf(stdout, "  %s chat --url %s --token dev:alice alice/trip\n", os.Args[0], r.opts.AdvertiseURL)
	}
	return nil
}

// demoTimeout bounds the scripted conversation, which takes some seconds.
const demoTimeout = 2 * time.Minute

func (d *dev) play(ctx context.Context, stdout io.Writer) (demo.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	cfg := demo.Config{Token: "dev:alice", Out: stdout, Logger: d.log}
	for _, r := range d.pageRegions() {
		cfg.Regions = append(cfg.Regions, demo.Region(r))
	}
	return demo.Run(ctx, cfg)
}

func (d *dev) close() error {
	var errs []error
	d.running.Wait()
	for _, r := range d.regions {
		if r.node != nil {
			errs = append(errs, r.node.close())
		}
	}
	if d.net != nil {
		d.net.Close()
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
