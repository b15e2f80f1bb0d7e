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
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/internal/app/page"
	"github.com/roamsync/roam/internal/demo"
	"github.com/roamsync/roam/internal/memnet"
)

// dev is `roam dev`: whole regions in this process, joined by a network with delays.
type dev struct {
	opts  DevOptions
	ring  KeyRing
	dir   string // removed in the end
	net   *memnet.Network
	nodes []*node
	log   *slog.Logger
}

// Dev runs `roam dev` until ctx ends, or until the demo has, if it is to end then.
func Dev(ctx context.Context, o DevOptions, stdout, stderr io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	d := &dev{opts: o, log: newLogger(stderr, o.LogLevel)}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	up := make(chan struct{}, len(d.nodes))
	for _, n := range d.nodes {
		g.Go(func() error { return n.run(ctx, func() { up <- struct{}{} }) })
	}
	g.Go(func() error {
		for range d.nodes {
			select {
			case <-up:
			case <-ctx.Done():
				return nil
			}
		}
		return d.show(ctx, stop, stdout)
	})
	return g.Wait()
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
		if err := d.openNode(i, name); err != nil {
			return err
		}
	}
	return nil
}

// openNode opens one region of one node. Only the client ports are the user's business; the others are free ones.
func (d *dev) openNode(i int, name string) error {
	port := 0
	if d.opts.Port > 0 {
		port = d.opts.Port + i
	}
	o := ServeOptions{
		Region: name, Node: "n1", Data: filepath.Join(d.dir, name), BootstrapExpect: 1,
		ClientAddr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), AdminAddr: anyPort, ClusterAddr: anyPort, PeerAddr: anyPort,
		Redis: d.opts.Redis, Worker: "echo", Auth: "dev", TraceOptions: d.opts.TraceOptions,
	}
	if i > 0 {
		o.Join = []string{d.nodes[0].opts.ClusterAddr}
	}
	n, err := newNode(o, d.ring, d.net, d.log.With("region", name))
	if err != nil {
		return fmt.Errorf("region %s: %w", name, err)
	}
	n.page = page.Handler(d.pageRegions)
	d.nodes = append(d.nodes, n)
	return nil
}

const anyPort = "127.0.0.1:0"

func (d *dev) pageRegions() []page.Region {
	var all []page.Region
	for _, n := range d.nodes {
		all = append(all, page.Region{Name: n.opts.Region, URL: n.opts.AdvertiseURL})
	}
	return all
}

// show tells the user where to look, and plays the demo if asked.
func (d *dev) show(ctx context.Context, stop func(), stdout io.Writer) error {
	for _, n := range d.nodes {
		n.printReady(stdout)
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
	fmt.Fprintf(stdout, "\nTry it: http://%s/   (Ctrl-C ends it)\n", d.nodes[0].opts.ClientAddr)
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
	for _, n := range d.nodes {
		errs = append(errs, n.close())
	}
	if d.net != nil {
		d.net.Close()
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
