package machine

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
)

// TestIdle: what is unused is found wherever it is, a bounded number of sessions at a time, and purged once; what is used again meanwhile is not.
func TestIdle(t *testing.T) {
	a := newAlone(t)
	const n = 2*IdleLook + 100
	for i := range n {
		a.put(fmt.Sprint("u/", i), &crdt.Op{Kind: crdt.KindMsg, OID: "m", Text: "x", User: "u"})
	}
	then := time.UnixMilli(1_700_000_000_000)
	var idle Idle
	looked := map[string]int{}
	look := func(before time.Time) (*Command, int) {
		t.Helper()
		was := len(looked)
		c, err := idle.Look(a.Machine, ^uint64(0), before, func(session string, p uint8, _ crdt.Vector) bool {
			if p != crdt.PartitionOf(session) {
				t.Errorf("%s is looked for in partition %d", session, p)
			}
			looked[session]++
			return len(session)%2 == 0
		})
		if err != nil {
			t.Fatal(err)
		}
		return c, len(looked) - was
	}
	if c, found := look(then); c != nil || found > 0 {
		t.Fatalf("used just then, %d are found", found)
	}
	purged, rounds := 0, 0
	for ; len(looked) < n && rounds < n; rounds++ {
		c, found := look(then.Add(time.Second))
		if found > IdleLook {
			t.Fatalf("%d are looked at in one go", found)
		}
		if c == nil {
			continue
		}
		if len(c.Ops) > maxPurges {
			t.Fatalf("%d are purged in one go", len(c.Ops))
		}
		again := c.Ops[0].Session
		a.say(again, 1)
		if a.do(c); a.length(again) != 2 {
			t.Errorf("of one that is used again, %d entries are left", a.length(again))
		}
		purged += len(c.Ops) - 1
	}
	left := 0
	for i := range n {
		s := fmt.Sprint("u/", i)
		if a.length(s) == 0 {
			left++
		}
		a.intact(s)
	}
	if purged == 0 || left != purged {
		t.Errorf("%d are purged, and %d are empty", purged, left)
	}
	t.Logf("%d rounds, %d purged", rounds, purged)
}

// TestIdleOfSomePartitions: a group's leader goes round in its own partitions only.
func TestIdleOfSomePartitions(t *testing.T) {
	a := newAlone(t)
	own := map[string]bool{}
	const mask = 0xff00
	for i := range 500 {
		s := fmt.Sprint("u/", i)
		a.put(s, &crdt.Op{Kind: crdt.KindMsg, OID: "m", Text: "x", User: "u"})
		if mask&(1<<crdt.PartitionOf(s)) != 0 {
			own[s] = true
		}
	}
	var idle Idle
	for range 3 {
		seen := map[string]bool{}
		for range 2 { // the first look begins in the middle of a round
			if _, err := idle.Look(a.Machine, mask, time.UnixMilli(1_700_000_001_000), func(s string, _ uint8, _ crdt.Vector) bool {
				seen[s] = true
				return false
			}); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) != len(own) {
			t.Errorf("%d of %d are found", len(seen), len(own))
		}
		for s := range seen {
			if !own[s] {
				t.Errorf("%s is another group's", s)
			}
		}
	}
}
