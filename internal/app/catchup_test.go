package app

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/region"
	"github.com/roamsync/roam/replication"
	"github.com/roamsync/roam/wire"
)

// BenchmarkCatchUp: a region of one node takes b.N ops that it lacks from another, while its own clients put 500 a second: at which rate,
// and how long these wait for their ok, beside how long they wait when there is nothing to catch up with. Use -benchtime 200000x.
func BenchmarkCatchUp(b *testing.B) {
	n, err := memnet.New(memnet.Config{})
	if err != nil {
		b.Fatal(err)
	}
	ahead, behind := openSide(b, n, "shanghai", "127.0.0.1"), openSide(b, n, "beijing", "127.0.0.2")
	lost := crdt.NewOrigin("guangzhou", 1<<32) // whose ops shanghai has
	ahead.fill(b, lost, b.N)
	behind.live(b, time.Second, nil) // the first are slow
	calm := behind.live(b, 3*time.Second, nil)
	done := make(chan struct{})
	var once sync.Once
	defer behind.Watch(func([]wire.Event) {
		if behind.has(lost) == uint64(b.N) {
			once.Do(func() { close(done) })
		}
	})()
	b.ResetTimer()
	behind.follow(b)
	busy := behind.live(b, time.Hour, done)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	for name, took := range map[string][]time.Duration{"calm": calm, "busy": busy} {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}

// side is a region of one node with its links, and without clients' sockets.
type side struct {
	*region.Region
	links *replication.Links
	pool  *replication.Pool
}

func openSide(b *testing.B, n *memnet.Network, name, host string) *side {
	b.Helper()
	r, err := region.New(region.Config{Region: name, Node: "n1", Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	member, err := n.Member(name, host+":7946")
	if err != nil {
		b.Fatal(err)
	}
	keys := [][]byte{make([]byte, 32)}
	s := &side{Region: r}
	s.pool, err = replication.NewPool(replication.PoolConfig{
		Region: name, Node: "n1", BindAddr: host + ":7946", PeerAddr: host + ":7947", Keys: keys, Roster: r, Transport: member,
		Join: []string{"127.0.0.1:7946"},
	})
	if err == nil {
		s.links, err = replication.NewLinks(replication.LinksConfig{
			Region: name, Node: "n1", Source: r, Local: r, States: r, Closings: r, Pool: s.pool, Lead: r, Keys: keys, Dial: n.DialFunc(name),
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	l, err := n.Listen(name, host+":7947")
	if err != nil {
		b.Fatal(err)
	}
	srv := grpc.NewServer(append(s.links.ServerOptions(), grpc.WaitForHandlers(true))...)
	s.links.Register(srv)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{r.Run, s.pool.Run, s.links.Gossip, func(context.Context) error { return srv.Serve(l) }} {
		running.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				b.Error(err)
			}
		})
	}
	b.Cleanup(func() {
		cancel()
		err := s.links.Close()
		srv.Stop()
		running.Wait()
		if err := r.Close(); err != nil {
			b.Error(err)
		}
		if err != nil {
			b.Error(err)
		}
	})
	<-r.Ready()
	led := make(chan struct{})
	var once sync.Once
	running.Go(func() {
		err := r.Lead(ctx, 0, func(ctx context.Context) error {
			once.Do(func() { close(led) })
			<-ctx.Done()
			return nil
		})
		if err != nil {
			b.Error(err)
		}
	})
	<-led
	return s
}

// fill has a region take in an origin's ops.
func (s *side) fill(b *testing.B, o crdt.Origin, n int) {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	var all [crdt.Partitions]wire.Records
	for p := range all {
		all[p] = wire.Records{Origin: o, Partition: uint8(p), From: 1, Hash: wire.FeedStart(o, uint8(p))}
	}
	take := func(rs *wire.Records) {
		if _, err := s.Ingest(b.Context(), *rs); err != nil {
			b.Fatal(err)
		}
		rs.From, rs.Records = rs.Last()+1, nil
	}
	for i := range n {
		session := fmt.Sprintf("user%d/trip", rng.IntN(2000))
		record := wire.Record{Op: (&crdt.Op{
			Kind: crdt.KindMsg, Session: session, OID: fmt.Sprintf("far%020d", i), Seq: uint64(i + 1), Stamp: crdt.Stamp(1<<40 + i), TS: 1_700_000_000_000,
			User: "user", Device: "phone", Role: "user", Text: "what did you mean by that? I think that we should take the train at nine, since it is cheaper",
		}).Encode()}.Encode()
		rs := &all[crdt.PartitionOf(session)]
		rs.Records, rs.Hash = append(rs.Records, record), rs.Hash.Next(record)
		if len(rs.Records) == 500 {
			take(rs)
		}
	}
	for p := range all {
		if len(all[p].Records) > 0 {
			take(&all[p])
		}
	}
}

// has counts an origin's ops that are applied.
func (s *side) has(o crdt.Origin) (n uint64) {
	for p := range uint8(crdt.Partitions) {
		n += s.Cursors(p)[o.ID()]
	}
	return n
}

// follow begins to follow other regions.
func (s *side) follow(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.links.Run(ctx, ^uint64(0)); err != nil {
			b.Error(err)
		}
	}()
	b.Cleanup(func() { cancel(); <-ended })
}

// live puts messages, 500 a second, each when it is due, and returns how long each took.
func (s *side) live(b *testing.B, length time.Duration, until <-chan struct{}) (took []time.Duration) {
	b.Helper()
	var mu sync.Mutex
	due, over, none := map[uint64]time.Time{}, false, make(chan struct{}) // none: all are answered, after the last
	var once sync.Once
	defer s.Watch(func(events []wire.Event) {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
			if at, ok := due[e.Tag]; ok && e.Tag != 0 {
				took = append(took, now.Sub(at))
				delete(due, e.Tag)
			}
		}
		if over && len(due) == 0 {
			once.Do(func() { close(none) })
		}
	})()
	start := time.Now()
	for i := 0; time.Since(start) < length; i++ {
		at := start.Add(time.Duration(i) * 2 * time.Millisecond)
		select {
		case <-until:
			length = 0
		case <-time.After(time.Until(at)):
		}
		tag := rand.Uint64() | 1
		mu.Lock()
		due[tag] = at
		mu.Unlock()
		session := fmt.Sprintf("live%d/trip", i%500)
		err := s.Submit(&wire.Put{Session: session, Tag: tag, Ops: []*crdt.Op{{
			Kind: crdt.KindMsg, Session: session, OID: fmt.Sprintf("live%016x", tag), User: "live", Device: "phone", Role: "user", Text: "are we there yet?",
		}}, Fail: func(err error) { b.Error(err) }})
		if err != nil {
			b.Fatal(err)
		}
	}
	mu.Lock()
	over = true
	left := len(due)
	mu.Unlock()
	if left > 0 {
		<-none
	}
	return took
}
