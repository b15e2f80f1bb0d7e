package region

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
)

// BenchmarkIdle is what a leader's look for unused sessions costs a second: machine.IdleLook of them.
func BenchmarkIdle(b *testing.B) {
	s := startWith(b, Config{Region: "a", Node: "n1", Dir: b.TempDir()})
	for i := range 10 {
		s.putMany(b, fmt.Sprint("r", i, "-"), 2000)
	}
	if err := s.flush(); err != nil {
		b.Fatal(err)
	}
	var idle machine.Idle
	for b.Loop() {
		if _, err := idle.Look(s.all()[0].fsm.Machine, ^uint64(0), time.Unix(0, 0), func(string, uint8, crdt.Vector) bool { return false }); err != nil {
			b.Fatal(err)
		}
	}
}
