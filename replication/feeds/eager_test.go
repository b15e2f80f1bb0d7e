package feeds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// writer is a region that has a feed in partition 0.
type writer struct {
	empty
	records [][]byte
	hashes  []wire.Hash // after each
}

func (w *writer) Cursors(uint8) crdt.Vector { return crdt.Vector{w.self.ID(): uint64(len(w.records))} }

func (w *writer) Position(o crdt.Origin, p uint8, f uint64) (wire.Position, bool) {
	pos := wire.Position{F: f, Hash: wire.FeedStart(o, p)}
	if f > 0 {
		pos.Hash = w.hashes[f-1]
	}
	return pos, true
}

func (w *writer) Feed(o crdt.Origin, p uint8, from uint64, maxBytes int) (wire.Records, error) {
	rs := wire.Records{Origin: o, Partition: p, From: from}
	for size := 0; int(from) <= len(w.records) && (size == 0 || size+len(w.records[from-1]) <= maxBytes); from++ {
		size += len(w.records[from-1])
		rs.Records = append(rs.Records, w.records[from-1])
	}
	pos, _ := w.Position(o, p, from-1)
	rs.Hash = pos.Hash
	return rs, nil
}

func (w *writer) write(record []byte) {
	pos, _ := w.Position(w.self, 0, uint64(len(w.records)))
	w.records, w.hashes = append(w.records, record), append(w.hashes, pos.Hash.Next(record))
}

// newReader follows a writer; what it is given to commit is committed at once.
func newReader(w *writer) *Follower {
	f := NewFollower("shanghai", empty{crdt.NewOrigin("beijing", 1)}, Forks{}, All)
	f.subscribe(w.self, aDay)
	f.Take()
	return f
}

// committed has done what a follower wants to commit, and returns up to where.
func committed(f *Follower) (up uint64) {
	for actions := f.Take(); len(actions) > 0; actions = f.Take() {
		for _, a := range actions {
			if a.Commit != nil {
				up = a.Commit.Last()
				f.Done(a.Commit, up, nil, aDay)
			}
		}
	}
	return up
}

// TestAheadOfTheStream: records that came as a datagram are taken in their place only, once, and the stream goes on from there.
func TestAheadOfTheStream(t *testing.T) {
	w := &writer{empty: empty{crdt.NewOrigin("shanghai", 1)}}
	f, e := newReader(w), Eager{}
	for range 2 {
		w.write(make([]byte, 100))
		_, _ = e.Committed(w, 1, true) // the first begins
	}
	w.write(make([]byte, 100))
	third, passed := e.Committed(w, 1, true)
	if len(third) != 1 || third[0].From != 1 || len(third[0].Records) != 3 || passed != 0 {
		t.Fatalf("%v, %d passed", third, passed)
	}
	for range 5 {
		w.write(make([]byte, 100))
		_, _ = e.Committed(w, 1, true)
	}
	w.write(make([]byte, 100))
	late, _ := e.Committed(w, 1, true)
	bad := &peerpb.Records{Origin: third[0].Origin, From: 1, Records: third[0].Records, Hash: late[0].Hash}
	other := &peerpb.Records{Origin: string(crdt.NewOrigin("guangzhou", 1)), From: 1, Records: third[0].Records, Hash: third[0].Hash}
	for _, step := range []struct {
		r    *peerpb.Records
		want Outcome
	}{{late[0], Early}, {bad, BadRecords}, {&peerpb.Records{Origin: "x"}, BadRecords}, {other, NoFeed}, {third[0], Taken}, {third[0], Known}} {
		if got := f.Eager(step.r, nil); got != step.want {
			t.Errorf("%s, expected %s", got, step.want)
		}
	}
	if up := committed(f); up != 3 {
		t.Errorf("committed up to %d", up)
	}
	all, _ := w.Feed(w.self, 0, 1, 1<<20)
	stream := &peerpb.Records{Origin: string(w.self), From: 1, Records: all.Records, Hash: all.Hash[:]}
	for range 2 {
		if err := f.Records(stream, nil); err != nil {
			t.Fatal(err)
		}
	}
	if up := committed(f); up != 9 {
		t.Errorf("with the stream, committed up to %d", up)
	}
}

// growing is a writer to whose feed another record comes whenever it is read.
type growing struct{ *writer }

func (g growing) Feed(o crdt.Origin, p uint8, from uint64, limit int) (wire.Records, error) {
	g.write(make([]byte, 10))
	return g.writer.Feed(o, p, from, limit)
}

// TestAheadOfTheHead: what is committed while records are read for a datagram goes with it, or passes, and is not counted below nothing.
func TestAheadOfTheHead(t *testing.T) {
	w := &writer{empty: empty{crdt.NewOrigin("shanghai", 1)}}
	var e Eager
	w.write(make([]byte, 10))
	_, _ = e.Committed(w, 1, true)
	w.write(make([]byte, 10))
	all, passed := e.Committed(growing{w}, 1, true)
	if len(all) != 1 || all[0].From != 1 || len(all[0].Records) != 3 || passed != 0 {
		t.Errorf("%d sent from %d on, %d passed", len(all[0].Records), all[0].From, passed)
	}
	if all, passed := e.Committed(w, 1, true); len(all) != 0 || passed != 0 {
		t.Errorf("%d sent once more, %d passed", len(all), passed)
	}
}

// TestAheadIsBounded: what is large, or much, goes over the stream only.
func TestAheadIsBounded(t *testing.T) {
	w := &writer{empty: empty{crdt.NewOrigin("shanghai", 1)}}
	var e Eager
	w.write(make([]byte, 10))
	_, _ = e.Committed(w, 1, true)
	w.write(make([]byte, MaxEager+1))
	if all, passed := e.Committed(w, 1, true); len(all) != 0 || passed != 1 {
		t.Errorf("a large one: %d, %d passed", len(all), passed)
	}
	for range maxBehind + 1 {
		w.write(make([]byte, 1))
	}
	if all, passed := e.Committed(w, 1, true); len(all) != 0 || passed != maxBehind+1 {
		t.Errorf("many: %d, %d passed", len(all), passed)
	}
	w.write(make([]byte, 1))
	_, _ = e.Committed(w, 1, false)
	w.write(make([]byte, 1))
	if all, _ := e.Committed(w, 1, true); len(all) != 1 || e.next[0] != uint64(len(w.records))+1 {
		t.Errorf("after a time without: %v", all)
	}
}

// TestAheadOfLoss: over a way that loses packets, records come in time far more often if they go ahead as datagrams too. The stream
// is modelled as TCP is: what is lost is sent again a round trip later, at best, and all that follows waits for it.
func TestAheadOfLoss(t *testing.T) {
	const delay, every, n = 30 * time.Millisecond, 20 * time.Millisecond, 5000
	for _, loss := range []float64{0.01, 0.05} {
		late := map[bool]int{}
		for _, ahead := range []bool{false, true} {
			took := overLossyWay(n, loss, delay, every, ahead)
			for _, d := range took {
				if d > delay+5*time.Millisecond {
					late[ahead]++
				}
			}
			slices.Sort(took)
			t.Logf("%.0f %% lost, ahead %t: %d of %d late, p50 %s, p99 %s, longest %s", 100*loss, ahead, late[ahead], n, took[n/2], took[n*99/100], took[n-1])
		}
		if late[true]*4 > late[false] {
			t.Errorf("%.0f %% lost: %d of %d are late with datagrams, %d without", 100*loss, late[true], n, late[false])
		}
	}
}

// overLossyWay returns how long each record took from one region to the other.
func overLossyWay(n int, loss float64, delay, every time.Duration, ahead bool) (took []time.Duration) {
	type arrival struct {
		at    time.Duration
		order int
		r     *peerpb.Records
		eager bool
	}
	w, rng := &writer{empty: empty{crdt.NewOrigin("shanghai", 1)}}, rand.New(rand.NewPCG(1, uint64(loss*1000)))
	var e Eager
	var all []arrival
	stream := time.Duration(0)
	for i := range n {
		at := time.Duration(i) * every
		w.write(fmt.Append(nil, "record ", i))
		r, _ := w.Feed(w.self, 0, uint64(i+1), 1<<20)
		arrives := at + delay
		for rng.Float64() < loss {
			arrives += 2*delay + 10*time.Millisecond
		}
		stream = max(stream, arrives)
		all = append(all, arrival{stream, len(all), &peerpb.Records{Origin: string(w.self), From: r.From, Records: r.Records, Hash: r.Hash[:]}, false})
		fresh, _ := e.Committed(w, 1, ahead)
		for _, r := range fresh {
			if rng.Float64() >= loss {
				all = append(all, arrival{at + delay, len(all), r, true})
			}
		}
	}
	slices.SortFunc(all, func(a, b arrival) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return a.order - b.order
	})
	f := newReader(w)
	for _, a := range all {
		if a.eager {
			f.Eager(a.r, nil)
		} else if err := f.Records(a.r, nil); err != nil {
			panic(err)
		}
		for up := committed(f); uint64(len(took)) < up; {
			took = append(took, a.at-time.Duration(len(took))*every)
		}
	}
	return took
}
