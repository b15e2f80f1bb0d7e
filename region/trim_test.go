package region

import (
	"fmt"
	"testing"

	"github.com/roamsync/roam/crdt"
)

// TestSessionsAreTrimmed: the leader has what is old removed, by an op like any other.
func TestSessionsAreTrimmed(t *testing.T) {
	s := startWith(t, Config{Region: "a", Node: "n1", Dir: t.TempDir(), SessionEntries: 4})
	for i := range 10 {
		s.put(t, "u/s", msg(fmt.Sprintf("m%d", i), "x"))
	}
	for {
		left := 0
		if err := s.View("u/s", func(st crdt.Store) {
			log, _ := crdt.Page(st, 0, 100)
			left = len(log)
		}); err != nil {
			t.Fatal(err)
		}
		if left <= 5 { // not longer than asked for by more than a quarter
			return
		}
		<-s.events
	}
}
