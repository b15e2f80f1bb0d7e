package region

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// What is compared in one run: the disk alone, Raft with the same log and nothing to apply, and puts. proposers wait at a
// time, each for one message of messageBytes.
const (
	proposers    = 1024
	messageBytes = 256
)

// BenchmarkFsync is one append of 4 KiB after the other, each made durable.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page, took := make([]byte, 4<<10), make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	report(b, 1, took)
}

// report shows rate and latencies; every op is one of b.N.
func report(b *testing.B, each int, took []time.Duration) {
	b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "msgs/s")
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// everySetup runs a benchmark for 1 and 3 nodes with 1 and 4 groups on both engines of the log.
func everySetup(b *testing.B, run func(b *testing.B, nodes, groups int, engine string)) {
	for _, nodes := range []int{1, 3} {
		for _, groups := range []int{1, 4} {
			for _, engine := range []string{engineWAL, enginePebble} {
				b.Run(fmt.Sprintf("nodes=%d/groups=%d/log=%s", nodes, groups, engine), func(b *testing.B) { run(b, nodes, groups, engine) })
			}
		}
	}
}

// nothing is an FSM that has nothing to do.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (nothing) Restore(io.ReadCloser) error         { return nil }
func (nothing) Persist(s raft.SnapshotSink) error   { return s.Close() }
func (nothing) Release()                            {}

// BenchmarkRaft commits entries that hold what the proposers of a group say at once. An op is a message.
func BenchmarkRaft(b *testing.B) {
	everySetup(b, func(b *testing.B, nodes, groups int, engine string) {
		members := bareRafts(b, nodes, groups, engine)
		each := proposers / groups
		entries := max(b.N/proposers, 1)
		took := make([][]time.Duration, groups)
		b.ResetTimer()
		var all sync.WaitGroup
		for g, rafts := range members {
			all.Go(func() {
				for range entries {
					start := time.Now()
					for leaderOf(rafts).Apply(make([]byte, each*messageBytes), time.Minute).Error() != nil {
						continue // another leads, or may: on a busy machine that happens
					}
					took[g] = append(took[g], time.Since(start))
				}
			})
		}
		all.Wait()
		report(b, 1, slices.Concat(took...))
	})
}

// bareRafts returns the members of each group, one of which leads.
func bareRafts(b *testing.B, nodes, groups int, engine string) [][]*raft.Raft {
	stores, addrs := make([]logs, nodes), make([][]raft.Transport, groups)
	for n := range nodes {
		cfg := Config{Region: "beijing", Node: "n1", Dir: b.TempDir(), engine: engine}
		if err := cfg.check(); err != nil {
			b.Fatal(err)
		}
		var err error
		if stores[n], err = (&Region{cfg: cfg, count: groups}).openLogs(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { stores[n].close() })
	}
	var all [][]*raft.Raft
	for g := range groups {
		var members raft.Configuration
		for n := range nodes {
			tr := plainNetwork(b)
			addrs[g] = append(addrs[g], tr)
			members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(fmt.Sprint(n)), Address: tr.LocalAddr()})
		}
		var rafts []*raft.Raft
		for n := range nodes {
			rafts = append(rafts, bareRaft(b, stores[n], g, n, addrs[g][n], members))
		}
		leaderOf(rafts)
		all = append(all, rafts)
	}
	return all
}

// plain is a loopback whose ids are addresses.
type plain struct{ *loopback }

// Dial implements raft.StreamLayer.
func (plain) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(addr), timeout)
}

func plainNetwork(b *testing.B) raft.Transport {
	ln, err := (&cluster{}).listen()
	if err != nil {
		b.Fatal(err)
	}
	ln.id = ln.Listener.Addr().String()
	b.Cleanup(ln.cut) // after Raft has ended, which does not close what it accepted
	g := &group{r: &Region{cfg: Config{Logger: discard}, stopping: b.Context()}, leader: newLeader()}
	return g.network(plain{ln})
}

func bareRaft(b *testing.B, l logs, of, node int, tr raft.Transport, members raft.Configuration) *raft.Raft {
	log, stable, err := l.open(of)
	if err != nil {
		b.Fatal(err)
	}
	r := &Region{id: fmt.Sprint(node), count: 1, cfg: Config{Logger: discard, SnapshotEntries: 8192, TrailingEntries: 10240}}
	cfg, snaps := (&group{r: r}).raftConfig(), raft.NewDiscardSnapshotStore()
	if err := raft.BootstrapCluster(cfg, log, stable, snaps, tr, members); err != nil {
		b.Fatal(err)
	}
	one, err := raft.NewRaft(cfg, nothing{}, log, stable, snaps, tr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { one.Shutdown().Error(); tr.(raft.WithClose).Close() })
	return one
}

func leaderOf(rafts []*raft.Raft) *raft.Raft {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		for _, r := range rafts {
			if r.State() == raft.Leader {
				return r
			}
		}
	}
}

// BenchmarkPut puts messages into a thousand sessions, at the node that leads their group.
func BenchmarkPut(b *testing.B) {
	everySetup(b, func(b *testing.B, nodes, groups int, engine string) {
		c := newCluster(b, nodes, func(cfg *Config) { cfg.Groups, cfg.engine = groups, engine })
		c.putAll(b, func(session string) *clusterNode { return c.leaderOf(session) })
	})
}

// BenchmarkPutAnywhere puts them at all nodes in turn, as clients are: two of three are forwarded.
func BenchmarkPutAnywhere(b *testing.B) {
	for _, groups := range []int{1, 4} {
		b.Run(fmt.Sprintf("nodes=3/groups=%d", groups), func(b *testing.B) {
			c := newCluster(b, 3, func(cfg *Config) { cfg.Groups = groups })
			turn := 0
			c.putAll(b, func(string) *clusterNode { turn++; return c.nodes[fmt.Sprintf("n%d", turn%3+1)] })
		})
	}
}

func (c *cluster) leaderOf(session string) *clusterNode {
	for _, n := range c.nodes {
		if n.Led()&(1<<crdt.PartitionOf(session)) != 0 {
			return n
		}
	}
	return c.nodes["n1"]
}

// putAll keeps as many puts under way as there are proposers. One that was tried twice has two events.
func (c *cluster) putAll(b *testing.B, at func(session string) *clusterNode) {
	c.leads()
	quiet, drained := make(chan struct{}), sync.WaitGroup{}
	defer func() { close(quiet); drained.Wait() }()
	done, sent, ended := make(chan uint64, proposers), make([]time.Time, b.N), make([]atomic.Bool, b.N)
	end := func(tag uint64) {
		if tag != 0 && !ended[tag-1].Swap(true) {
			done <- tag
		}
	}
	for _, n := range c.nodes {
		drained.Go(func() { drain(n.events, quiet) })
		n.Watch(func(evs []wire.Event) {
			for i := range evs {
				end(evs[i].Tag)
			}
		})
	}
	text, took := string(make([]byte, messageBytes)), make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	used := cpuTime(b)
	for next, got := 0, 0; got < b.N; got++ {
		for ; next < b.N && next-got < proposers; next++ {
			session, tag := fmt.Sprintf("alice/%d", next%1000), uint64(next+1)
			op := msg2(session, fmt.Sprintf("01J%020d", next))
			op.Text, sent[next] = text, time.Now()
			fail := func(err error) { b.Error(err); end(tag) }
			if err := at(session).Submit(&wire.Put{Session: session, Ops: []*crdt.Op{op}, Tag: tag, Fail: fail}); err != nil {
				b.Fatal(err)
			}
		}
		took = append(took, time.Since(sent[<-done-1]))
	}
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
	report(b, 1, took)
}

// drain empties what nobody reads.
func drain(events <-chan wire.Event, quiet <-chan struct{}) {
	for {
		select {
		case <-events:
		case <-quiet:
			return
		}
	}
}

var discard = slog.New(slog.DiscardHandler)
