package region

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// A region of three has steadyOps ops in an entry as long as it is idle half of the time: a third are its own, and most are of a partition each.
const (
	steadyOps      = 5
	steadySessions = 600
)

// steadyLoad makes the entries of a region: its own puts, and what two others have issued.
type steadyLoad struct {
	t      testing.TB
	others []*machine.Machine
	apply  []func(entry []byte)
	sent   []map[uint8]uint64 // of the others' feeds
	put    int
}

func newSteadyLoad(t testing.TB) *steadyLoad {
	l := &steadyLoad{t: t}
	for _, name := range []string{"shanghai", "shenzhen"} {
		m, apply := newMachine(t, machine.Config{Region: name, Store: machine.NewMem()})
		l.others, l.apply, l.sent = append(l.others, m), append(l.apply, apply), append(l.sent, map[uint8]uint64{})
	}
	return l
}

// entry is the next one.
func (l *steadyLoad) entry() []byte {
	cmds := l.puts((l.put/steadyOps)%2 + 1)
	for i, m := range l.others {
		l.apply[i](machine.EncodeEntry(l.puts(2 - i*((l.put/steadyOps)%2))))
		cmds = append(cmds, l.fresh(m, l.sent[i])...)
	}
	return machine.EncodeEntry(cmds)
}

func (l *steadyLoad) puts(n int) [][]byte {
	return putsOf(&l.put, n, func(int) int { return l.put * 7 % steadySessions })
}

// fresh are the commands that take in what a machine has issued since.
func (l *steadyLoad) fresh(m *machine.Machine, sent map[uint8]uint64) (cmds [][]byte) {
	for p := range uint8(crdt.Partitions) {
		head := m.Cursors(p)[m.Self().ID()]
		if head == sent[p] {
			continue
		}
		rs, err := m.Feed(m.Self(), p, sent[p]+1, 1<<20)
		if err != nil {
			l.t.Fatal(err)
		}
		sent[p] = head
		cmds = append(cmds, (&machine.Command{Kind: machine.KindIngest, Records: rs}).Encode())
	}
	return cmds
}

// BenchmarkSteady applies such entries on one goroutine and without Raft, once the memtable has had as many as fill it: what an op costs a region that is not so busy
// that its entries are full. With feeds, the records that an entry adds are read twice besides, as for two other regions: from memory, or from the store.
func BenchmarkSteady(b *testing.B) {
	for _, c := range []struct {
		name          string
		feeds, recent int
	}{{"feeds=0", 0, 0}, {"feeds=2", 2, 0}, {"feeds=2/from=store", 2, 1}} {
		b.Run(c.name, func(b *testing.B) {
			l, kinds := newSteadyLoad(b), &countingStore{Store: benchStore(b)}
			m, apply := newMachine(b, machine.Config{Region: "beijing", Store: kinds, SessionBytes: 96 << 20, RecentBytes: c.recent})
			for range 50_000 / steadyOps {
				apply(l.entry())
			}
			var entries [][]byte
			for range max(b.N/steadyOps, 1) {
				entries = append(entries, l.entry())
			}
			sent := map[uint8]uint64{}
			for p := range uint8(crdt.Partitions) {
				sent[p] = m.Cursors(p)[m.Self().ID()]
			}
			*kinds = countingStore{Store: kinds.Store}
			b.ReportAllocs()
			b.ResetTimer()
			used, put := cpuTime(b), 0
			for _, e := range entries {
				apply(e)
				put += readFresh(b, m, sent, c.feeds)
			}
			b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1000/float64(len(entries)*steadyOps), "cpu-us/op")
			kinds.report(b, len(entries)*steadyOps)
		})
	}
}

// readFresh reads what was added to the own feeds so many times.
func readFresh(t testing.TB, m *machine.Machine, sent map[uint8]uint64, times int) (records int) {
	for p := range uint8(crdt.Partitions) {
		head := m.Cursors(p)[m.Self().ID()]
		for i := 0; i < times && head > sent[p]; i++ {
			rs, err := m.Feed(m.Self(), p, sent[p]+1, 1<<20)
			if err != nil || rs.Last() != head {
				t.Fatal(rs.Last(), head, err)
			}
			records += len(rs.Records)
		}
		sent[p] = head
	}
	return records
}

// countingStore counts what is written, by the kind of key.
type countingStore struct {
	machine.Store
	keys, bytes [256]int
}

func (s *countingStore) Batch() machine.Batch { return &countingBatch{s.Store.Batch(), s} }

func (s *countingStore) report(b *testing.B, ops int) {
	keys, bytes, all := 0, 0, []string{}
	for kind, n := range s.keys {
		if keys, bytes = keys+n, bytes+s.bytes[kind]; n > 0 {
			all = append(all, fmt.Sprintf("%#02x: %.2f keys, %.0f bytes", kind, float64(n)/float64(ops), float64(s.bytes[kind])/float64(ops)))
		}
	}
	b.ReportMetric(float64(keys)/float64(ops), "keys/op")
	b.ReportMetric(float64(bytes)/float64(ops), "written-B/op")
	if ops > 10_000 {
		b.Log("an op: " + strings.Join(all, "; "))
	}
}

type countingBatch struct {
	machine.Batch
	s *countingStore
}

func (b *countingBatch) Set(k, v []byte) error {
	b.s.keys[k[0]]++
	b.s.bytes[k[0]] += len(k) + len(v)
	return b.Batch.Set(k, v)
}

// TestFeedsAreReadWhileTheyGrow: whoever reads feeds while entries are applied has every record, in order and as it hashes, also where hardly any are at hand.
func TestFeedsAreReadWhileTheyGrow(t *testing.T) {
	for _, bytes := range []int{1, 4 << 10, 0} {
		l := newSteadyLoad(t)
		m, apply := newMachine(t, machine.Config{Region: "beijing", Store: benchStore(t), RecentBytes: bytes})
		var over atomic.Bool
		var reading sync.WaitGroup
		var read [3]int
		for i := range read {
			reading.Go(func() {
				at := map[crdt.OriginID]map[uint8]wire.Position{}
				for last, n := false, 1; !last || n > 0; { // a look takes so many bytes of each feed: the last finds none
					last = over.Load()
					var err error
					n, err = follow(m, at)
					if read[i] += n; err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 150 {
			apply(l.entry())
		}
		over.Store(true)
		reading.Wait()
		if want := []int{l.put, l.put, l.put}; !slices.Equal(read[:], want) {
			t.Errorf("%d bytes at hand: read %d, want %d", bytes, read, want)
		}
	}
}

// follow reads all feeds on from where it was.
func follow(m *machine.Machine, at map[crdt.OriginID]map[uint8]wire.Position) (n int, err error) {
	for _, o := range m.Origins() {
		if at[o.ID()] == nil {
			at[o.ID()] = map[uint8]wire.Position{}
		}
		for p := range uint8(crdt.Partitions) {
			got, err := advance(m, o, p, at[o.ID()])
			if err != nil {
				return 0, err
			}
			n += got
		}
	}
	return n, nil
}

func advance(m *machine.Machine, o crdt.Origin, p uint8, at map[uint8]wire.Position) (int, error) {
	pos, known := at[p]
	if !known {
		pos.Hash = wire.FeedStart(o, p)
	}
	rs, err := m.Feed(o, p, pos.F+1, 2000)
	for _, r := range rs.Records {
		pos.Hash = pos.Hash.Next(r)
	}
	if err == nil && len(rs.Records) > 0 && pos.Hash != rs.Hash {
		err = errors.New("the records do not hash to what is said")
	}
	at[p] = wire.Position{F: rs.Last(), Hash: pos.Hash}
	return len(rs.Records), err
}
