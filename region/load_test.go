package region

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// BenchmarkLonePut puts one message after the other, each when the one before is acknowledged, and between them makes one page durable, in
// the same directory: what a put costs beyond the disk.
func BenchmarkLonePut(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			c := newCluster(b, nodes, nil)
			c.leads()
			l, n := newLoad(b, c), c.leaderOf("alice/1")
			defer l.end()
			f, err := os.Create(filepath.Join(b.TempDir(), "page"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			page, synced := make([]byte, 4<<10), make([]time.Duration, 0, b.N)
			for i := range b.N {
				start := time.Now()
				if _, err := f.Write(page); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				synced = append(synced, time.Since(start))
				l.put(n, "alice/1", i, time.Now())
				<-l.done
			}
			report(b, 1, l.times(b.N))
			slices.Sort(synced)
			b.ReportMetric(float64(synced[len(synced)/2].Microseconds())/1000, "fsync-p50-ms")
		})
	}
}

// BenchmarkOpenLoop puts messages at a steady rate, whether those before are acknowledged or not. A latency counts from when the message
// was due. cores is how many processors the whole process has kept busy: all nodes, and this generator.
func BenchmarkOpenLoop(b *testing.B) {
	const rate = 5000
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprintf("nodes=%d/rate=%d", nodes, rate), func(b *testing.B) {
			c := newCluster(b, nodes, nil)
			c.leads()
			l, n := newLoad(b, c), c.leaderOf("alice/0")
			defer l.end()
			b.ResetTimer()
			used, start := cpuTime(b), time.Now()
			l.running.Go(func() {
				for i := range b.N {
					due := start.Add(time.Duration(i) * time.Second / rate)
					if wait := time.Until(due); wait > 0 {
						<-time.After(wait)
					}
					l.put(n, fmt.Sprintf("alice/%d", i%1000), i, due)
				}
			})
			for range b.N {
				<-l.done
			}
			b.ReportMetric((cpuTime(b)-used).Seconds()/time.Since(start).Seconds(), "cores")
			report(b, 1, l.times(b.N))
		})
	}
}

// load is puts under way. Whoever makes one ends it.
type load struct {
	b       testing.TB
	c       *cluster
	text    string
	done    chan struct{}
	sent    []time.Time
	took    []time.Duration
	ended   []atomic.Bool
	quiet   chan struct{}  // closed when nothing is to be drained any more
	running sync.WaitGroup // what drains, and what generates
}

func newLoad(b *testing.B, c *cluster) *load {
	l := &load{
		b: b, c: c, text: strings.Repeat("x", messageBytes), done: make(chan struct{}, b.N), sent: make([]time.Time, b.N),
		took: make([]time.Duration, b.N), ended: make([]atomic.Bool, b.N), quiet: make(chan struct{}),
	}
	for _, n := range c.nodes {
		l.running.Go(func() { drain(n.events, l.quiet) })
		n.Watch(func(evs []wire.Event) {
			for i := range evs {
				l.over(evs[i].Tag)
			}
		})
	}
	return l
}

// over ends a put, once.
func (l *load) over(tag uint64) {
	if tag != 0 && !l.ended[tag-1].Swap(true) {
		l.took[tag-1] = time.Since(l.sent[tag-1])
		l.done <- struct{}{}
	}
}

func (l *load) put(n *clusterNode, session string, i int, due time.Time) {
	op, tag := msg2(session, fmt.Sprintf("01J%020d", i)), uint64(i+1)
	op.Text, l.sent[i] = l.text, due
	fail := func(err error) { l.b.Error(err); l.over(tag) }
	if err := n.Submit(&wire.Put{Session: session, Ops: []*crdt.Op{op}, Tag: tag, Fail: fail}); err != nil {
		fail(err)
	}
}

func (l *load) times(n int) []time.Duration { return l.took[:n] }

func (l *load) end() {
	close(l.quiet)
	l.running.Wait()
}

// BenchmarkSessions applies messages to sessions drawn at random, all of which have one already: what an op costs when most sessions are
// cold, on one goroutine and without Raft. After a start nothing is remembered of any.
func BenchmarkSessions(b *testing.B) {
	for _, one := range []struct {
		sessions int
		started  bool
	}{{1000, false}, {1_000_000, false}, {1_000_000, true}} {
		b.Run(fmt.Sprintf("sessions=%d/started=%t", one.sessions, one.started), func(b *testing.B) {
			told, put, st := 0, 0, benchStore(b)
			watch := func(evs []wire.Event) { told += len(evs) }
			apply := benchMachine(b, st, watch)
			for first := 0; first < one.sessions; first += batchOps { // one each
				apply(entryOf(&put, batchOps, func(i int) int { return first + i }))
			}
			if one.started {
				apply = benchMachine(b, st, watch)
			}
			dice := rand.New(rand.NewPCG(1, 2))
			var entries [][]byte
			for done := 0; done < b.N; done += batchOps {
				entries = append(entries, entryOf(&put, batchOps, func(int) int { return dice.IntN(one.sessions) }))
			}
			applyAll(b, apply, entries)
			if told != put {
				b.Fatalf("told of %d of %d", told, put)
			}
		})
	}
}

// applyAll measures entries that are full.
func applyAll(b *testing.B, apply func([]byte), entries [][]byte) {
	b.ReportAllocs()
	b.ResetTimer()
	used := cpuTime(b)
	for _, e := range entries {
		apply(e)
	}
	b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1000/float64(len(entries)*batchOps), "cpu-us/op")
}

// entryOf is an entry of n messages, each to one of the sessions.
func entryOf(put *int, n int, session func(int) int) []byte {
	return machine.EncodeEntry(putsOf(put, n, session))
}

// putsOf are n commands, of a message each.
func putsOf(put *int, n int, session func(int) int) [][]byte {
	clock, text := crdt.Clock{}, strings.Repeat("some words of a message, ", 11)[:messageBytes]
	now := time.UnixMilli(1_700_000_000_000 + int64(*put))
	cmds := make([][]byte, n)
	for i := range cmds {
		*put++
		name := fmt.Sprintf("alice/%d", session(i))
		op := msg2(name, fmt.Sprintf("01J%020d", *put))
		op.Text = text
		c := &machine.Command{Kind: machine.KindPut, Session: name, Ops: []*crdt.Op{op}, Tag: uint64(*put), Entry: "here"}
		c.Stamp(&clock, now)
		cmds[i] = c.Encode()
	}
	return cmds
}
