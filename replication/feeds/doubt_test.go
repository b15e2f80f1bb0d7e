package feeds

import (
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
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
		got := m.Closable(e, others, 1<<7, now, heardAt(now))
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
	if got := m.Closable(e, nil, 1<<7, now, heardAt(time.Time{})); len(got) != 1 || got[0] != (wire.Final{Origin: was, Partition: 7, F: 4}) {
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

// TestWhatWasSaidBeforeClosesNothing: a node that was not started again, while the disks of the others of its region went back or were lost, may know of what was
// lost only as long ago as it was told of it. The others hold more, and say so with their next heads.
func TestWhatWasSaidBeforeClosesNothing(t *testing.T) {
	e := &ending{empty: empty{was}, home: "beijing", have: crdt.Vector{was.ID(): 4}, origins: []crdt.Origin{was}}
	m, now, heard := &Matrix{}, time.Unix(100, 0), map[string]time.Time{}
	last := func(region string, _ uint8) time.Time { return heard[region] }
	closes := func(want uint64, why string) {
		t.Helper()
		now = now.Add(time.Minute)
		got := m.Closable(e, []string{"shanghai", "guangzhou"}, 1<<7, now, last)
		if want == 0 && len(got) > 0 || want > 0 && (len(got) != 1 || got[0] != wire.Final{Origin: was, Partition: 7, F: want}) {
			t.Errorf("%s: closed %+v", why, got)
		}
	}
	row(m, "shanghai", 1, was, 4)
	row(m, "guangzhou", 1, was, 4)
	heard["shanghai"], heard["guangzhou"] = now, now
	closes(0, "it still numbers")
	e.origins, e.self = append(e.origins, is), is
	closes(0, "nobody was heard since it has begun anew")
	heard["shanghai"] = now
	closes(0, "shanghai had its last heads on their way")
	row(m, "shanghai", 1, was, 9)
	heard["shanghai"] = now
	closes(0, "shanghai holds more")
	e.have[was.ID()] = 9
	closes(0, "guangzhou was not heard")
	row(m, "guangzhou", 1, was, 9)
	closes(0, "what a third one says of guangzhou may be of before")
	row(m, "guangzhou", 1, is, 1)
	closes(9, "guangzhou has something of the present incarnation, by whatever way that was heard")
}

// TestWhatIsGivenUpIsClosedOnWhatWasSaid: from who was given up nobody takes anything, as each of the others has said: what they held then was known by then.
func TestWhatIsGivenUpIsClosedOnWhatWasSaid(t *testing.T) {
	e := &ending{empty: empty{is}, home: "beijing", have: crdt.Vector{gone.ID(): 6}, origins: []crdt.Origin{is, gone}, evicted: crdt.Evictions{"chengdu": {Bound: 2}}}
	m, now := &Matrix{}, time.Unix(100, 0)
	m.Doubts(e.home, is, 7, e.evicted, now)
	row(m, "shanghai", 1, gone, 6)
	m.Told("shanghai", &peerpb.Heads{Evicted: []*peerpb.Evicted{{Region: "chengdu", Bound: 2}}})
	if got := m.Closable(e, []string{"shanghai"}, 1<<7, now.Add(doubtFor), heardAt(time.Time{})); len(got) != 1 || got[0].F != 6 {
		t.Errorf("closed %+v", got)
	}
}
