package region

import (
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// BenchmarkApply applies entries as full as group commit makes them, of messages to a thousand sessions, on one goroutine and
// without Raft: what an op costs the machine. In memory it is what applying costs besides the disk.
func BenchmarkApply(b *testing.B) {
	b.Run("store=memory", func(b *testing.B) { applyPuts(b, machine.NewMem()) })
	b.Run("store=pebble", func(b *testing.B) { applyPuts(b, benchStore(b)) })
}

// benchStore is a Pebble as a node has it.
func benchStore(b testing.TB) machine.Store {
	r := &Region{cfg: Config{Region: "beijing", Node: "n1", Dir: b.TempDir(), Logger: discard}}
	if err := r.cfg.check(); err != nil {
		b.Fatal(err)
	}
	opts := r.stateOptions()
	b.Cleanup(opts.Cache.Unref)
	var err error
	if r.db, err = pebble.Open(r.cfg.Dir, opts); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.db.Close() })
	return r.store(nil)
}

// benchMachine is a machine that issues, over a state that may be there already, and what applies its next entry.
func benchMachine(b testing.TB, st machine.Store, watch func([]wire.Event)) (apply func(entry []byte)) {
	_, apply = newMachine(b, machine.Config{Region: "beijing", Entry: "here", Store: st, Watch: watch, SessionBytes: 96 << 20})
	return apply
}

func newMachine(b testing.TB, cfg machine.Config) (m *machine.Machine, apply func(entry []byte)) {
	m, err := machine.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	index := m.Applied()
	apply = func(entry []byte) {
		index++
		if _, err := m.Apply(index, entry, false); err != nil {
			b.Fatal(err)
		}
	}
	if m.Self() != "" {
		return m, apply
	}
	renew := &machine.Command{Kind: machine.KindRenew, Next: crdt.NewOrigin(cfg.Region, 1)}
	apply(machine.EncodeEntry([][]byte{renew.Encode()}))
	return m, apply
}

func applyPuts(b *testing.B, st machine.Store) {
	told := 0
	apply := benchMachine(b, st, func(evs []wire.Event) { told += len(evs) })
	entries := putEntries(b.N)
	b.ReportAllocs()
	b.ResetTimer()
	used := cpuTime(b)
	for _, entry := range entries {
		apply(entry)
	}
	b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
	if told != b.N {
		b.Fatalf("told of %d of %d", told, b.N)
	}
}

// putEntries are entries that hold so many puts in all, to a thousand sessions in turn.
func putEntries(n int) (entries [][]byte) {
	for put := 0; put < n; {
		entries = append(entries, entryOf(&put, min(batchOps, n-put), func(int) int { return put % 1000 }))
	}
	return entries
}

// cpuTime is what the process has used of processors, whoever else is on them.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
