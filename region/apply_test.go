package region

import (
	"fmt"
	"strings"
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
	b.Run("store=pebble", func(b *testing.B) {
		r := &Region{cfg: Config{Region: "beijing", Node: "n1", Dir: b.TempDir(), Logger: discard}}
		if err := r.cfg.check(); err != nil {
			b.Fatal(err)
		}
		opts := r.stateOptions()
		defer opts.Cache.Unref()
		var err error
		if r.db, err = pebble.Open(r.cfg.Dir, opts); err != nil {
			b.Fatal(err)
		}
		defer r.db.Close()
		applyPuts(b, r.store(nil))
	})
}

func applyPuts(b *testing.B, st machine.Store) {
	told := 0
	m, err := machine.New(machine.Config{
		Region: "beijing", Entry: "here", Store: st, Watch: func(evs []wire.Event) { told += len(evs) },
	})
	if err != nil {
		b.Fatal(err)
	}
	renew := &machine.Command{Kind: machine.KindRenew, Next: crdt.NewOrigin("beijing", 1)}
	if _, err := m.Apply(1, machine.EncodeEntry([][]byte{renew.Encode()}), false); err != nil {
		b.Fatal(err)
	}
	entries := putEntries(b.N)
	b.ReportAllocs()
	b.ResetTimer()
	used := cpuTime(b)
	for i, entry := range entries {
		if _, err := m.Apply(uint64(i+2), entry, false); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
	if told != b.N {
		b.Fatalf("told of %d of %d", told, b.N)
	}
}

// putEntries are entries that hold so many puts in all.
func putEntries(n int) (entries [][]byte) {
	var clock crdt.Clock
	text, now := strings.Repeat("some words of a message, ", 11)[:messageBytes], time.UnixMilli(1_700_000_000_000)
	for done := 0; done < n; now = now.Add(10 * time.Millisecond) {
		var cmds [][]byte
		for ; len(cmds) < batchOps && done < n; done++ {
			session := fmt.Sprintf("alice/%d", done%1000)
			op := msg2(session, fmt.Sprintf("01J%020d", done))
			op.Text = text
			c := &machine.Command{Kind: machine.KindPut, Session: session, Ops: []*crdt.Op{op}, Tag: uint64(done + 1), Entry: "here"}
			c.Stamp(&clock, now)
			cmds = append(cmds, c.Encode())
		}
		entries = append(entries, machine.EncodeEntry(cmds))
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
