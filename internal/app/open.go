package app

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/dispatch"
	"github.com/roamsync/roam/gateway"
	"github.com/roamsync/roam/internal/clock"
	"github.com/roamsync/roam/region"
	"github.com/roamsync/roam/replication"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

func (n *node) openRegion(KeyRing) (err error) {
	cfg := region.Config{
		Region: n.opts.Region, Node: n.opts.Node, Dir: n.opts.Data, Expect: n.opts.BootstrapExpect, Join: n.opts.BootstrapExpect == 0, Groups: n.opts.Groups, Cluster: &n.cluster,
		Stream: func(id string) raft.StreamLayer { return n.port.Raft(id, n.cluster.resolve) }, Logger: n.log, Metrics: n.reg, Now: n.clock.Now,
		Tracer: n.telemetry.Tracer(), SessionEntries: n.opts.SessionEntries, FeedOps: n.opts.FeedRetainOps,
		SessionTTL: n.opts.SessionTTL, RemovedTTL: n.opts.RemovedTTL,
	}
	if cfg.Reserve, err = parseReserve(n.opts.DiskReserve); err != nil {
		return err
	}
	if n.on.Region != nil {
		n.on.Region(&cfg)
	}
	if n.region, err = region.New(cfg); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	if s := n.region.Space(); n.opts.DiskReserve != "" && s.Total > 0 && s.Reserve >= s.Total {
		return fmt.Errorf("--disk-reserve %s: the disk of --data has %d MiB in all, so it would never take a message", n.opts.DiskReserve, s.Total>>20)
	}
	return nil
}

func (n *node) openReplication(ring KeyRing) (err error) {
	var transport memberlist.Transport
	if n.on.Gossip != nil {
		if transport, err = n.on.Gossip(n.opts.ClusterAddr); err != nil {
			return fmt.Errorf("--cluster-addr: %w", err)
		}
	}
	instance := rand.Uint64()
	n.pool, err = replication.NewPool(replication.PoolConfig{
		Region: n.opts.Region, Node: n.opts.Node, BindAddr: n.opts.ClusterAddr, PeerAddr: n.opts.PeerAddr, ID: n.region.ID(),
		AdvertiseHost: n.opts.AdvertiseHost,
		ClientURL:     n.opts.AdvertiseURL, Join: n.opts.Join, Keys: ring.derive("gossip"), Roster: n.region,
		Transport: transport, Logger: n.log, Metrics: n.reg, Instance: instance,
		Identify: n.identify, Clock: n.clock,
	})
	if err != nil {
		return fmt.Errorf("--cluster-addr: %w", err)
	}
	n.opts.ClusterAddr = n.pool.Addr()
	n.links, err = replication.NewLinks(replication.LinksConfig{
		Region: n.opts.Region, Node: n.opts.Node, Source: n.region, Local: n.region, States: n.region, Closings: n.region, Pool: n.pool, Lead: n.region,
		Keys: ring.derive("link"), Dial: n.dialer(), Instance: instance, Forked: n.forked, Now: n.clock.Now, Logger: n.log, Metrics: n.reg, Tracer: n.telemetry.Tracer(),
	})
	n.cluster.pool.Store(n.pool)
	n.cluster.links.Store(n.links)
	return err
}

// cluster is what the region asks of membership and links, which are there a little later than it is.
type cluster struct {
	pool  atomic.Pointer[replication.Pool]
	links atomic.Pointer[replication.Links]
}

// Members implements region.Cluster.
func (c *cluster) Members() []wire.Member {
	if p := c.pool.Load(); p != nil {
		return p.Members()
	}
	return nil
}

// Node implements region.Cluster.
func (c *cluster) Node(addr string) (peerpb.NodeClient, error) {
	if l := c.links.Load(); l != nil {
		return l.Node(addr)
	}
	return nil, errors.New("the node is starting")
}

// namesAt is who should be at an address.
func (c *cluster) namesAt(addr string) []string {
	if p := c.pool.Load(); p != nil {
		return p.NamesAt(addr)
	}
	return nil
}

// regionAt is the region of the node at an address.
func (c *cluster) regionAt(addr string) string {
	if p := c.pool.Load(); p != nil {
		return p.RegionAt(addr)
	}
	return ""
}

func (c *cluster) resolve(id string) (addr string, err error) {
	for _, m := range c.Members() {
		if m.ID == id {
			return m.Addr, nil
		}
	}
	return "", fmt.Errorf("membership does not know node %s", id)
}

func (n *node) openDispatch(KeyRing) (err error) {
	if n.opts.Redis == embedded {
		if n.redis, err = dispatch.StartEmbedded(""); err != nil {
			return fmt.Errorf("--redis: %w", err)
		}
		n.opts.Redis = n.redis.URL()
	}
	if n.opts.Worker != "" {
		n.worker, err = newWorker(WorkerOptions{
			Redis: n.opts.Redis, Region: n.opts.Region, LLM: n.opts.Worker, Concurrency: 64, TokenDelay: 20 * time.Millisecond,
			ModelOptions: n.opts.ModelOptions,
		}, n.on.Redis, n.log, n.reg, n.telemetry.Tracer())
		if err != nil {
			return fmt.Errorf("--worker: %w", err)
		}
	}
	n.dispatch, err = dispatch.New(dispatch.Config{
		Region: n.opts.Region, Commits: n.region.Commits(0), Redis: n.opts.Redis, Logger: n.log, Registerer: n.reg, Now: n.clock.Now, Machine: n.clock.Machine,
		Tracer: n.telemetry.Tracer(), Dial: n.on.Redis, Abroad: abroad{n}, TakeoverAfter: n.opts.TakeoverAfter,
	})
	if err != nil {
		return fmt.Errorf("--redis: %w", err)
	}
	return nil
}

func (n *node) openGateway(ring KeyRing) (err error) {
	auth, err := n.opts.auth(n.clock.Machine)
	if err != nil {
		return err
	}
	n.gateway, err = gateway.New(gateway.Config{
		Region: n.opts.Region, Node: n.opts.Node, Backend: n.region, Finals: n.region.Finals, Held: n.pool.Held, Peers: n.pool, Heirs: n.pool.Heirs, Auth: auth, Keys: ring.derive("resume"),
		Logger: n.log, Metrics: n.reg, Clock: timers{n.clock}, Tracer: n.telemetry.Tracer(), TraceSample: n.opts.TraceSample,
	})
	return err
}

// auth is how clients are known.
func (o *ServeOptions) auth(now func() time.Time) (gateway.Auth, error) {
	if o.AuthHS256File == "" {
		return gateway.Dev{}, nil
	}
	key, err := hs256Key("--auth-hs256-file", o.AuthHS256File)
	if err != nil {
		return nil, err
	}
	return gateway.HS256{Key: key, Now: now}, nil
}

// close releases what a node has opened, as far as its run has not: the region is last, since all others read from it.
func (n *node) close() error {
	var errs []error
	for _, l := range []net.Listener{n.client, n.admin, n.peer} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if n.redis != nil {
		n.redis.Close()
	}
	if n.pool != nil && !n.ran {
		errs = append(errs, n.pool.Close())
	}
	if n.links != nil && !n.ran {
		errs = append(errs, n.links.Close())
	}
	return errors.Join(append(errs, n.closeRegion())...)
}

// timers are the machine's clock with timers. A gateway measures how long things take, and when tokens of users end, which the machine's clock was asked
// for as well; the corrected clock would jump in between.
type timers struct{ machine *clock.Clock }

// Now implements gateway.Clock.
func (t timers) Now() time.Time { return t.machine.Machine() }

// AfterFunc implements gateway.Clock.
func (timers) AfterFunc(d time.Duration, fn func()) (stop func() bool) {
	return time.AfterFunc(d, fn).Stop
}
