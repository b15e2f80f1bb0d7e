package replication

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// memory is a region of one node as links need it: its feeds are lists, and a commit takes no time.
type memory struct {
	self crdt.Origin

	mu       sync.Mutex // guards what follows
	feeds    map[feeds.Feed][]entry
	cursors  [crdt.Partitions]crdt.Vector
	watchers []func([]wire.Event)
}

type entry struct {
	record []byte
	hash   wire.Hash
}

func newMemory(region string) *memory {
	m := &memory{self: crdt.NewOrigin(region, 1<<32), feeds: map[feeds.Feed][]entry{}}
	for p := range m.cursors {
		m.cursors[p] = crdt.Vector{}
	}
	return m
}

func (m *memory) Self(uint8) crdt.Origin { return m.self }

func (m *memory) Cursors(p uint8) crdt.Vector {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cursors[p]
}

func (m *memory) Origins() []crdt.Origin { return []crdt.Origin{m.self} }

func (m *memory) Position(o crdt.Origin, p uint8, f uint64) (wire.Position, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f == 0 {
		return wire.Position{Hash: wire.FeedStart(o, p)}, true
	}
	return wire.Position{F: f, Hash: m.feeds[feeds.Feed{Origin: o, Partition: p}][f-1].hash}, true
}

func (m *memory) Feed(o crdt.Origin, p uint8, from uint64, maxBytes int) (wire.Records, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rs, size := wire.Records{Origin: o, Partition: p, From: from}, 0
	for _, e := range m.feeds[feeds.Feed{Origin: o, Partition: p}][from-1:] {
		if size += len(e.record); size > maxBytes && len(rs.Records) > 0 {
			break
		}
		rs.Records, rs.Hash = append(rs.Records, e.record), e.hash
	}
	return rs, nil
}

// commit appends records to feeds, and tells who watches.
func (m *memory) commit(all ...wire.Records) {
	m.mu.Lock()
	event := wire.Event{}
	for _, rs := range all {
		f := feeds.Feed{Origin: rs.Origin, Partition: rs.Partition}
		hash := wire.FeedStart(f.Origin, f.Partition)
		if n := len(m.feeds[f]); n > 0 {
			hash = m.feeds[f][n-1].hash
		}
		for _, r := range rs.Records {
			hash = hash.Next(r)
			m.feeds[f] = append(m.feeds[f], entry{r, hash})
		}
		v := m.cursors[f.Partition].Clone()
		v[f.Origin.ID()] = uint64(len(m.feeds[f]))
		m.cursors[f.Partition] = v
		event.Changes = append(event.Changes, wire.Change{Dot: crdt.Dot{Origin: f.Origin, ID: f.Origin.ID(), Partition: f.Partition}})
	}
	watchers := m.watchers
	m.mu.Unlock()
	for _, fn := range watchers {
		fn([]wire.Event{event})
	}
}

func (m *memory) Watch(fn func([]wire.Event)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers = append(m.watchers[:len(m.watchers):len(m.watchers)], fn)
	return func() {}
}

func (m *memory) Ingest(_ context.Context, rs wire.Records) (uint64, error) {
	if have := m.Cursors(rs.Partition)[rs.Origin.ID()]; rs.From != have+1 {
		return have, fmt.Errorf("records from %d follow %d", rs.From, have)
	}
	m.commit(rs)
	return rs.Last(), nil
}

func (m *memory) Renew(context.Context, crdt.Origin, uint64, string) error            { return nil }
func (m *memory) Part(*peerpb.Pull, int) (*peerpb.Part, error)                        { return nil, wire.ErrUnavailable }
func (m *memory) Level() uint32                                                       { return 5 }
func (m *memory) Pull(uint8, string) (*peerpb.Pull, bool, error)                      { return nil, false, nil }
func (m *memory) Install(context.Context, *peerpb.Part, string) error                 { return nil }
func (m *memory) Trim(context.Context, uint64, func(crdt.Origin, uint8) uint64) error { return nil }
func (m *memory) Led() uint64                                                         { return feeds.All }
func (m *memory) Leader(uint64) string                                                { return "" }
func (m *memory) Leaders() []string                                                   { return nil }
func (m *memory) Groups() int                                                         { return 1 }
func (m *memory) Home() string                                                        { return m.self.Region() }
func (m *memory) OriginsOf(uint8) []crdt.Origin                                       { return m.Origins() }
func (m *memory) Finals(uint8) crdt.Finals                                            { return nil }
func (m *memory) Evictions(uint8) crdt.Evictions                                      { return nil }
func (m *memory) CloseOrigins(context.Context, []wire.Final) error                    { return nil }
func (m *memory) Evict(context.Context, string, crdt.Eviction) error                  { return nil }
func (m *memory) Peers() []string                                                     { return nil }
func (m *memory) AddPeer(context.Context, string) error                               { return nil }

// counted counts what a connection carries, both ways, at the side that has opened it.
type counted struct {
	net.Conn
	in, out *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(int64(n))
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.Add(int64(n))
	return n, err
}

// rig is two regions: one writes, the other follows.
type rig struct {
	writer, reader *memory
	served, links  *Links
	in, out        atomic.Int64 // bytes to the reader, and from it
}

// newRig is for a bubble.
func newRig(t *testing.T) *rig {
	t.Helper()
	n, err := memnet.New(memnet.Config{Dial: func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{writer: newMemory("shanghai"), reader: newMemory("beijing")}
	r.served, r.links = r.open(t, n, r.writer, "127.0.0.1"), r.open(t, n, r.reader, "127.0.0.2")
	l, err := n.Listen("shanghai", "127.0.0.1:7947")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(append(r.served.ServerOptions(), grpc.WaitForHandlers(true))...)
	r.served.Register(srv)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(l) }) // until Stop
	running.Go(func() {
		if err := r.links.follow(ctx, lane{"shanghai", feeds.All}, "127.0.0.1:7947"); ctx.Err() == nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		for _, l := range []*Links{r.served, r.links} {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if err := l.cfg.Pool.Close(); err != nil {
				t.Error(err)
			}
		}
		srv.Stop()
		running.Wait()
	})
	return r
}

func (r *rig) open(t *testing.T, n *memnet.Network, m *memory, host string) *Links {
	t.Helper()
	region := m.self.Region()
	member, err := n.Member(region, host+":7946")
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	pool, err := NewPool(PoolConfig{
		Region: region, Node: "n1", BindAddr: host + ":7946", PeerAddr: host + ":7947", Keys: [][]byte{key}, Roster: m, Transport: member,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLinks(LinksConfig{
		Region: region, Node: "n1", Source: m, Local: m, States: m, Closings: m, Pool: pool, Lead: m, Keys: [][]byte{key},
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := n.DialFunc(region)(ctx, addr)
			if err != nil {
				return nil, err
			}
			return counted{c, &r.in, &r.out}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var words = strings.Fields("what did you mean by that I think we should take the train at nine because it is cheaper and the hotel is near the station tell me more please yes no maybe tomorrow")

// aRecord is a message of some words, and the size of its op.
func aRecord(rng *rand.Rand, i int) (record []byte, op int) {
	text := make([]string, 25)
	for j := range text {
		text[j] = words[rng.IntN(len(words))]
	}
	b := (&crdt.Op{
		Kind: crdt.KindMsg, Session: fmt.Sprintf("user%d/trip", rng.IntN(1000)), OID: fmt.Sprintf("%016x%08x", rng.Uint64(), i), Seq: uint64(i),
		Stamp: crdt.Stamp(1<<50 + i), TS: 1_700_000_000_000, User: fmt.Sprintf("user%d", i%1000), Device: "phone", Role: "user",
		Text: strings.Join(text, " "),
	}).Encode()
	r := wire.Record{Op: b}
	if i%2 == 0 { // something of the other region was applied in between
		r.Deps = crdt.Vector{crdt.OriginID(7): uint64(i)}
	}
	return r.Encode(), len(b)
}
