package feeds

import (
	"slices"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// ending is a region by what it has and knows to be over; all of it in partition 7.
type ending struct {
	empty
	home    string
	have    crdt.Vector
	finals  crdt.Finals
	evicted crdt.Evictions
	origins []crdt.Origin
}

func (e *ending) Home() string                   { return e.home }
func (e *ending) OriginsOf(uint8) []crdt.Origin  { return e.origins }
func (e *ending) Evictions(uint8) crdt.Evictions { return e.evicted }
func (e *ending) Cursors(p uint8) crdt.Vector    { return only(p, e.have) }
func (e *ending) Finals(p uint8) crdt.Finals     { return crdt.Finals(only(p, crdt.Vector(e.finals))) }
func only(p uint8, v crdt.Vector) crdt.Vector {
	if p == 7 {
		return v
	}
	return nil
}

// closable is what can be closed after it has long been known who was given up, and all others have just been heard.
func (e *ending) closable(m *Matrix, others ...string) []wire.Final {
	m.Doubts(e.home, e.Self(7), 7, e.evicted, time.Unix(0, 0))
	now := time.Unix(0, 0).Add(doubtFor)
	return m.Closable(e, others, 1<<7, now, heardAt(now))
}

// heardAt has heads of all regions come last at some time.
func heardAt(at time.Time) LastHeard { return func(string, uint8) time.Time { return at } }

var (
	was, is = crdt.NewOrigin("beijing", 3), crdt.NewOrigin("beijing", 5)
	gone    = crdt.NewOrigin("chengdu", 2)
)

// row has a region say what it holds of an origin in partition 7, under an incarnation.
func row(m *Matrix, region string, epoch uint64, o crdt.Origin, f uint64) {
	m.Ack(region, epoch, o.ID(), 7, f)
}

// TestOwnFormerIncarnationsAreClosed: once all other regions hold the same of them, and not before; nothing that lives is.
func TestOwnFormerIncarnationsAreClosed(t *testing.T) {
	e := &ending{empty: empty{is}, home: "beijing", have: crdt.Vector{was.ID(): 4, is.ID(): 2, gone.ID(): 1}, origins: []crdt.Origin{was, is, gone}}
	m := &Matrix{}
	step := func(want uint64, why string) {
		t.Helper()
		got := e.closable(m, "shanghai", "guangzhou")
		switch {
		case want == 0 && len(got) > 0:
			t.Errorf("%s: closed %+v", why, got)
		case want > 0 && (len(got) != 1 || got[0] != wire.Final{Origin: was, Partition: 7, F: want}):
			t.Errorf("%s: closed %+v", why, got)
		}
	}
	row(m, "shanghai", 1, was, 4)
	step(0, "one was not heard")
	row(m, "guangzhou", 1, was, 3)
	step(0, "one is behind")
	row(m, "guangzhou", 1, was, 5)
	step(0, "one is ahead")
	row(m, "guangzhou", 2, was, 4)
	step(4, "all hold four")
	e.finals = crdt.Finals{was.ID(): 4}
	step(0, "it is closed")
	e.finals = nil
	e.evicted = crdt.Evictions{"guangzhou": {Bound: 2}}
	step(0, "one was evicted since, and counts as one that was not heard")
	if got := e.closable(m, "shanghai"); len(got) != 1 {
		t.Errorf("without it: %+v", got)
	}
}

// TestEvictedOriginsAreClosed: only when all others have heard of it, since until then they may take in more.
func TestEvictedOriginsAreClosed(t *testing.T) {
	e := &ending{empty: empty{is}, home: "beijing", have: crdt.Vector{gone.ID(): 6}, origins: []crdt.Origin{is, gone}}
	m := &Matrix{}
	row(m, "shanghai", 1, gone, 6)
	row(m, "chengdu", 2, gone, 9)
	if got := e.closable(m, "shanghai", "chengdu"); len(got) > 0 {
		t.Errorf("nobody was evicted: %+v", got)
	}
	e.evicted = crdt.Evictions{"chengdu": {Bound: 2}}
	if got := e.closable(m, "shanghai"); len(got) > 0 {
		t.Errorf("shanghai has not heard of it: %+v", got)
	}
	m.Told("shanghai", &peerpb.Heads{Evicted: []*peerpb.Evicted{{Region: "chengdu", Bound: 2}}})
	if got := e.closable(m, "shanghai"); len(got) != 1 || got[0] != (wire.Final{Origin: gone, Partition: 7, F: 6}) {
		t.Errorf("all have heard of it: %+v", got)
	}
	e.evicted = crdt.Evictions{"chengdu": {Bound: 2, Back: 4}}
	if got := e.closable(m, "shanghai", "chengdu"); len(got) != 1 {
		t.Errorf("it is back with another of its groups, and waits with this one: %+v", got)
	}
	row(m, "chengdu", 4, gone, 5)
	if got := e.closable(m, "shanghai", "chengdu"); len(got) > 0 {
		t.Errorf("it is back, and does not hold the same yet: %+v", got)
	}
	row(m, "chengdu", 4, gone, 6)
	unheard := crdt.NewOrigin("chengdu", 1)
	m.Named("chengdu", "beijing", &peerpb.Heads{Heads: []*peerpb.Head{{Origin: string(unheard)}}})
	if got := e.closable(m, "shanghai"); len(got) != 2 || got[0] != (wire.Final{Origin: unheard, Partition: 7}) {
		t.Errorf("an incarnation that only it knows: %+v", got)
	}
}

// TestUnheardIncarnationIsClosedByItsGroup: a group of an evicted region that had begun a new incarnation before it heard of that, and numbered something
// under it, closes that itself, where the others are: they do not know that it is over. It has no say in more than that.
func TestUnheardIncarnationIsClosedByItsGroup(t *testing.T) {
	e := &ending{empty: empty{""}, home: "beijing", have: crdt.Vector{was.ID(): 4, is.ID(): 2, gone.ID(): 1}, origins: []crdt.Origin{was, is, gone}}
	e.evicted = crdt.Evictions{"beijing": {Bound: 5}, "chengdu": {Bound: 2}}
	m := &Matrix{}
	for _, region := range []string{"shanghai", "guangzhou"} {
		row(m, region, 1, was, 3)
		row(m, region, 1, gone, 1)
		m.Told(region, &peerpb.Heads{Evicted: []*peerpb.Evicted{{Region: "beijing", Bound: 3}, {Region: "chengdu", Bound: 2}}})
	}
	if got := e.closable(m, "shanghai", "guangzhou"); len(got) != 1 || got[0] != (wire.Final{Origin: is, Partition: 7}) {
		t.Errorf("it closes %+v", got)
	}
	row(m, "shanghai", 1, is, 1)
	if got := e.closable(m, "shanghai", "guangzhou"); len(got) > 0 {
		t.Errorf("one holds more than the other, and it closes %+v", got)
	}
	row(m, "guangzhou", 1, is, 1)
	if got := e.closable(m, "shanghai", "guangzhou"); len(got) != 1 || got[0] != (wire.Final{Origin: is, Partition: 7, F: 1}) {
		t.Errorf("both hold one, and it closes %+v", got)
	}
	if got := e.closable(m, "shanghai", "guangzhou", "harbin"); len(got) > 0 {
		t.Errorf("one was not heard, and it closes %+v", got)
	}
	m.Told("guangzhou", &peerpb.Heads{Evicted: []*peerpb.Evicted{{Region: "beijing", Bound: 5}}})
	if got := e.closable(m, "shanghai", "guangzhou"); len(got) > 0 {
		t.Errorf("another one knows that it was given up, and it closes %+v", got)
	}
	m.Told("guangzhou", &peerpb.Heads{Evicted: []*peerpb.Evicted{{Region: "chengdu", Bound: 2}}})
	if got := e.closable(m, "shanghai", "guangzhou"); len(got) > 0 {
		t.Errorf("another one has not said what it has given up, and it closes %+v", got)
	}
	e.evicted = nil
	if got := e.closable(m, "shanghai", "guangzhou"); len(got) > 0 {
		t.Errorf("a region without an incarnation closes %+v", got)
	}
}

// TestEvictedRegionsDoNotCount: neither what one had, nor that it issued it; what it has under a later incarnation does.
func TestEvictedRegionsDoNotCount(t *testing.T) {
	m, dot := &Matrix{}, crdt.Dot{Origin: gone, ID: gone.ID(), Partition: 7, F: 3}
	ev := crdt.Evictions{"chengdu": {Bound: 2}}
	row(m, "chengdu", 2, gone, 3)
	if n := m.Holders(dot, "beijing", ev); n != 0 {
		t.Errorf("%d hold it", n)
	}
	if f := m.Acked([]string{"chengdu"}, gone.ID(), 7, ev); f != 0 {
		t.Errorf("acknowledged up to %d", f)
	}
	back := crdt.Evictions{"chengdu": {Bound: 2, Back: 4}}
	if n := m.Holders(dot, "beijing", back); n != 0 {
		t.Errorf("%d hold it, and what chengdu had is void", n)
	}
	row(m, "chengdu", 4, gone, 3)
	if n, f := m.Holders(dot, "beijing", back), m.Acked([]string{"chengdu"}, gone.ID(), 7, back); n != 1 || f != 3 {
		t.Errorf("%d hold it, acknowledged up to %d", n, f)
	}
}

func headsOf(epoch uint64, o crdt.Origin, f, final uint64) *peerpb.Heads {
	h := &peerpb.Head{Origin: string(o), F: make([]uint64, 8), Final: make([]uint64, 8)}
	h.F[7], h.Final[7] = f, final
	return &peerpb.Heads{Epoch: epoch, Whole: true, Heads: []*peerpb.Head{h}}
}

// kinds is what a follower wants done: the names of what it does, in order.
func kinds(t *testing.T, f *Follower, h *peerpb.Heads) (all []string, acts []Action) {
	t.Helper()
	if err := f.Heads(h, map[string]bool{"shanghai": true}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	acts = f.Take()
	for _, a := range acts {
		switch {
		case a.Evict != nil:
			all = append(all, "evict")
		case a.Close != nil:
			all = append(all, "close")
		case a.Renew != nil:
			all = append(all, "renew")
		case a.Send != nil:
			all = append(all, "send")
		}
	}
	return all, acts
}

// TestFollowerTakesEnds: what another region has closed is closed here, until it is.
func TestFollowerTakesEnds(t *testing.T) {
	e := &ending{empty: empty{is}, home: "beijing"}
	f := NewFollower("shanghai", e, Forks{}, All)
	h := headsOf(1, gone, 0, 7)
	for range 2 {
		got, acts := kinds(t, f, h)
		if !slices.Equal(got, []string{"close"}) || acts[0].Close[0] != (wire.Final{Origin: gone, Partition: 7, F: 6}) {
			t.Fatalf("%v: %+v", got, acts)
		}
	}
	e.finals = crdt.Finals{gone.ID(): 6}
	if got, _ := kinds(t, f, nil); len(got) > 0 {
		t.Errorf("it is closed: %v", got)
	}
	if got, _ := kinds(t, f, headsOf(1, gone, 0, 9)); !slices.Equal(got, []string{"close"}) {
		t.Errorf("its end has risen: %v", got)
	}
	if got, _ := kinds(t, f, headsOf(1, is, 0, 9)); len(got) > 0 {
		t.Errorf("what we issue as is closed: %v", got)
	}
}

// TestFollowerOfAnEvictedRegion: nothing that it says counts, until it says that it is back under a later incarnation, and it is served nothing. One that does not know
// of its eviction may have gone on under incarnations that nobody has heard of.
func TestFollowerOfAnEvictedRegion(t *testing.T) {
	e := &ending{empty: empty{is}, home: "beijing", evicted: crdt.Evictions{"shanghai": {Bound: 4}}}
	f := NewFollower("shanghai", e, Forks{}, All)
	home := crdt.NewOrigin("shanghai", 4)
	h := headsOf(4, home, 9, 0)
	h.Evicted = []*peerpb.Evicted{{Region: "beijing", Bound: 9}}
	if got, _ := kinds(t, f, h); len(got) > 0 {
		t.Errorf("%v", got)
	}
	later := crdt.NewOrigin("shanghai", 6)
	h = headsOf(6, later, 9, 0)
	if got, _ := kinds(t, f, h); len(got) > 0 {
		t.Errorf("it does not know that it was evicted, and is followed: %v", got)
	}
	h.Evicted = []*peerpb.Evicted{{Region: "shanghai", Bound: 4, Back: 6}}
	if got, _ := kinds(t, f, h); !slices.Equal(got, []string{"evict"}) {
		t.Errorf("it says that it is back: %v", got)
	}
	e.evicted = crdt.Evictions{"shanghai": {Bound: 4, Back: 6}}
	if got, _ := kinds(t, f, h); !slices.Contains(got, "send") {
		t.Errorf("it is back, and is not followed: %v", got)
	}
	s := NewSender("shanghai", e, All)
	start := wire.FeedStart(is, 7)
	ask := &peerpb.Want{Epoch: 4, Subscribe: []*peerpb.Subscribe{{Origin: string(is), Partition: 7, Hash: start[:]}}}
	if s.Want(ask, nil); len(s.subs[7]) > 0 || s.Take()[0].Event.Reason != Evicted {
		t.Error("it is served")
	}
	ask.Epoch = 6
	if s.Want(ask, nil); len(s.subs[7]) != 1 {
		t.Error("it is back, and is not served")
	}
}

// TestFollowerThatWasEvicted: it is told, ends what it numbers under, takes the others' word for what is over, and then begins anew.
func TestFollowerThatWasEvicted(t *testing.T) {
	e := &ending{empty: empty{is}, home: "beijing", have: crdt.Vector{is.ID(): 2}, origins: []crdt.Origin{is}}
	f := NewFollower("shanghai", e, Forks{}, All)
	h := headsOf(1, gone, 0, 0)
	h.Evicted = []*peerpb.Evicted{{Region: "beijing", Bound: 5}}
	if got, acts := kinds(t, f, h); !slices.Equal(got, []string{"evict"}) || acts[0].Evict.Region != "beijing" {
		t.Errorf("%v", got)
	}
	e.evicted = crdt.Evictions{"beijing": {Bound: 5}}
	if got, _ := kinds(t, f, nil); !slices.Equal(got, []string{"evict"}) {
		t.Errorf("it is noted, and it numbers all the same: %v", got)
	}
	e.self = ""
	if got, _ := kinds(t, f, nil); len(got) > 0 {
		t.Errorf("the others have not closed what it numbered: %v", got)
	}
	if got, _ := kinds(t, f, headsOf(1, is, 2, 3)); !slices.Equal(got, []string{"close"}) {
		t.Errorf("%v", got)
	}
	e.finals = crdt.Finals{is.ID(): 2}
	if got, acts := kinds(t, f, nil); !slices.Equal(got, []string{"renew"}) || acts[0].Renew.Above != 5 || acts[0].Renew.Lost != "" {
		t.Errorf("%v", got)
	}
}
