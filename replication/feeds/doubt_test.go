package feeds

import (
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// doubting is a region that holds four of its former incarnation, after which its disks went back and it has begun anew. Of shanghai they know only that it was evicted.
func doubting() *ending {
	return &ending{
		empty: empty{is}, home: "beijing", have: crdt.Vector{was.ID(): 4}, origins: []crdt.Origin{was, is},
		evicted: crdt.Evictions{"shanghai": {Bound: 2}}, finals: crdt.Finals{crdt.NewOrigin("shanghai", 2).ID(): 0},
	}
}

// TestNothingIsClosedWhileItIsInDoubtWhoCounts: disks that went back have forgotten that an evicted region is back. It holds more of the former incarnation
// than they do, and gets the time to say so. When that is committed it is asked, as any other.
func TestNothingIsClosedWhileItIsInDoubtWhoCounts(t *testing.T) {
	e, m, now := doubting(), &Matrix{}, time.Unix(100, 0)
	closes := func(want uint64, why string, others ...string) {
		t.Helper()
		got := m.Closable(e, others, 1<<7, now)
		if want == 0 && len(got) > 0 || want > 0 && (len(got) != 1 || got[0] != wire.Final{Origin: was, Partition: 7, F: want}) {
			t.Errorf("%s: closed %+v", why, got)
		}
	}
	closes(0, "it has just begun anew")
	now = now.Add(doubtFor - 1)
	closes(0, "shanghai may still be about to say that it is back")
	row(m, "shanghai", 3, was, 9)
	now = now.Add(time.Minute)
	closes(0, "shanghai was heard under a later incarnation, which is not committed")
	e.evicted = crdt.Evictions{"shanghai": {Bound: 2, Back: 3}}
	closes(0, "shanghai is back, and holds more", "shanghai")
	e.have[was.ID()] = 9
	closes(9, "both hold the same", "shanghai")
}

// TestDoubtsEnd: a region that is gone says nothing, and is not waited for for ever. An eviction by an operator is no reason to doubt, a new incarnation is.
func TestDoubtsEnd(t *testing.T) {
	e, m, now := doubting(), &Matrix{}, time.Unix(100, 0)
	doubts := func(want bool, why string) {
		t.Helper()
		if got := m.Doubts(e.home, e.self, 7, e.evicted, now); got != want {
			t.Errorf("%s: in doubt: %v", why, got)
		}
	}
	doubts(true, "it has just begun anew")
	now = now.Add(doubtFor)
	doubts(false, "shanghai has had its time")
	if got := m.Closable(e, nil, 1<<7, now); len(got) != 1 || got[0] != (wire.Final{Origin: was, Partition: 7, F: 4}) {
		t.Errorf("closed %+v", got)
	}
	row(m, "shanghai", 2, was, 9)
	doubts(false, "shanghai was heard under what was given up")
	e.evicted["chengdu"] = crdt.Eviction{Bound: 2}
	doubts(false, "an operator has evicted another one, which closing does not wait for")
	e.self = crdt.NewOrigin("beijing", 6)
	doubts(true, "it has begun anew once more")
	e.evicted = crdt.Evictions{"beijing": {Bound: 4}, "shanghai": {Bound: 2, Back: 3}}
	doubts(false, "all others are back")
	e.evicted = nil
	doubts(false, "nobody was ever evicted")
}
