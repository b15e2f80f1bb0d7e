package salvage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// salvageInto has one site take in what another's disk holds.
func salvageInto(t *testing.T, to, disk *site, all bool) (Done, *Plan) {
	t.Helper()
	p, err := Compare(t.Context(), disk.Machine, part, to, all)
	if err != nil {
		t.Fatal(err)
	}
	done, err := p.Put(t.Context(), disk.Machine, to, 0)
	if err != nil {
		t.Fatal(err)
	}
	return done, p
}

// users put ops at random; each is known by a number.
type users struct {
	r    *rand.Rand
	n    int
	puts []*crdt.Op
}

func (u *users) op() *crdt.Op {
	u.n++
	op := &crdt.Op{Session: sessions[u.r.IntN(len(sessions))], OID: fmt.Sprint(u.n), User: "u", Role: "user"}
	switch k := u.r.IntN(20); {
	case k < 9 || u.n < 5:
		op.Kind, op.Text = crdt.KindMsg, fmt.Sprint("text ", u.n)
		if k < 3 {
			op.Models = []string{"echo"}
		}
	case k < 12:
		op.Kind, op.Key, op.Value = crdt.KindSet, fmt.Sprint("k", u.r.IntN(2)), fmt.Appendf(nil, "%d", u.n)
	case k < 14:
		op.Kind, op.Text = crdt.KindEdit, fmt.Sprint("edit ", u.n)
	case k < 15:
		op.Kind = crdt.KindDel
	case k < 17:
		op.Kind, op.Key, op.On = crdt.KindReact, "+", u.r.IntN(2) > 0
	case k < 19:
		op.Kind, op.ReadSeq = crdt.KindRead, uint64(u.r.IntN(2*u.n))
	default:
		op.Kind = crdt.KindForget
	}
	if op.Kind == crdt.KindEdit || op.Kind == crdt.KindDel || op.Kind == crdt.KindReact {
		op.Of = fmt.Sprint(1 + u.r.IntN(u.n))
	}
	u.puts = append(u.puts, op)
	return op
}

// among has users put at some sites, who know of each other.
func (u *users) among(n int, answers bool, all ...*site) {
	for range n {
		s := all[u.r.IntN(len(all))]
		s.put(u.op())
		if answers {
			s.report(u.r)
		}
		if u.r.IntN(4) == 0 {
			s.feed(all[u.r.IntN(len(all))])
		}
	}
}

// TestAsIfCutOff: what a disk had comes as if its region had been cut off that long, answers, removals and the ops of a third region that only
// it had included; of a disk that has forked, as if it had gone on under another incarnation.
func TestAsIfCutOff(t *testing.T) {
	for seed := range uint64(300) {
		u := &users{r: rand.New(rand.NewPCG(seed, 1))}
		forked := seed%2 == 1
		disk, living, third := newSite(t, "beijing", 0), newSite(t, "shanghai", 1), newSite(t, "tianjin", 2)
		u.among(10+u.r.IntN(20), !forked, disk, living, third)
		cutOff := disk // what comes by feeds, to compare
		if forked {
			twin := disk.copy(3)
			cutOff = disk.copy(3)
			cutOff.do(&machine.Command{Kind: machine.KindRenew, Lost: disk.Self(), Next: crdt.NewOrigin("beijing", started-5)})
			twin.do(&machine.Command{Kind: machine.KindPeer, Peer: "tianjin"}) // so that both have applied as much
			u.among(u.r.IntN(20), false, disk, living)
			living.feed(disk)
			disk = twin
		}
		before := len(u.puts)
		for range 5 + u.r.IntN(20) {
			if u.r.IntN(3) == 0 {
				third.put(u.op())
				for _, s := range slices.Compact([]*site{disk, cutOff}) {
					s.feed(third)
				}
				continue
			}
			op := u.op()
			for _, s := range slices.Compact([]*site{disk, cutOff}) {
				s.put(op)
			}
			if !forked {
				disk.report(u.r)
			}
		}
		for range u.r.IntN(10) { // meanwhile, elsewhere
			if again := before + u.r.IntN(len(u.puts)-before); u.r.IntN(3) == 0 && u.puts[again].Kind != crdt.KindForget {
				living.put(u.puts[again])
			} else {
				living.put(u.op())
			}
		}
		compare(t, fmt.Sprint("seed ", seed), disk, cutOff, living)
	}
}

// compare salvages a disk, and holds the result against what feeds bring.
func compare(t *testing.T, name string, disk, cutOff, living *site) {
	t.Helper()
	want, other := living.copy(4), living.copy(1)
	want.feed(cutOff)
	living.stop = 2
	if p, err := Compare(t.Context(), disk.Machine, part, living, false); err != nil {
		t.Fatal(name, err)
	} else if _, err := p.Put(t.Context(), disk.Machine, living, 0); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(name, err)
	}
	living.stop = 0
	first, plan := salvageInto(t, living, disk, false)
	if got := living.shows(); got != want.shows() && !want.ties() {
		t.Fatalf("%s: it shows\n%s, and as one that was cut off\n%s", name, got, want.shows())
	}
	sum := uint64(0)
	for _, b := range plan.Branches {
		sum += b.Ops()
		if b.Missing() > 0 || b.As.Incarnation() >= b.Origin.Incarnation() || b.As.Region() != b.Origin.Region() {
			t.Errorf("%s: %+v", name, b)
		}
	}
	again, _ := salvageInto(t, living, disk, false)
	if first.Put+first.There != sum || again.Put != 0 || again.There != sum {
		t.Errorf("%s: of %d, %+v, and again %+v", name, sum, first, again)
	}
	salvageInto(t, other, disk, false) // at the same time, elsewhere
	follower := newSite(t, "wuhan", 5)
	follower.feed(living)
	follower.feed(other)
	other.feed(living)
	same(t, name, living, other, follower)
}

// same holds the states of sites together.
func same(t *testing.T, name string, all ...*site) {
	t.Helper()
	for _, s := range all {
		a, err1 := all[0].Digest(part)
		b, err2 := s.Digest(part)
		c, err3 := s.Recompute(part)
		if err := errors.Join(err1, err2, err3); err != nil || a != b || b != c {
			t.Errorf("%s: digests %x %x %x, %v", name, a, b, c, err)
		}
	}
}

// TestErasedIsLeftOut: what was put before its session was erased does not come back, what was put after does, and what comes after that
// still depends on what was left out depended on.
func TestErasedIsLeftOut(t *testing.T) {
	disk, living, third := newSite(t, "beijing", 0), newSite(t, "shanghai", 1), newSite(t, "tianjin", 2)
	say := func(s *site, oid string) {
		s.put(&crdt.Op{Kind: crdt.KindMsg, Session: sessions[0], OID: oid, User: "u", Role: "user", Text: oid})
	}
	say(disk, "1")
	living.feed(disk)
	third.put(&crdt.Op{Kind: crdt.KindMsg, Session: sessions[1], OID: "cause", User: "u", Role: "user", Text: "x"})
	disk.feed(third)
	say(disk, "2")
	for living.index < disk.index+5 {
		living.put(&crdt.Op{Kind: crdt.KindForget, Session: sessions[0], OID: fmt.Sprint("erase.", living.index), User: "u"})
	}
	disk.index = living.index // later
	say(disk, "3")
	done, plan := salvageInto(t, living, disk, false)
	if len(plan.Branches) != 2 || !slices.Equal(plan.Branches[0].Erased, []uint64{2}) || done.Put != 2 {
		t.Fatalf("%+v %+v", plan.Branches, done)
	}
	rs, err := living.Feed(plan.Branches[0].As, part, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := wire.DecodeRecord(rs.Records[0])
	if want := (crdt.Vector{disk.Self().ID(): 1, plan.Branches[1].As.ID(): 1}); err != nil || !maps.Equal(rec.Deps, want) {
		t.Errorf("it depends on %v, not %v: %v", rec.Deps, want, err)
	}
	if err := living.View(sessions[0], func(st crdt.Store) {
		_, second := crdt.Lookup(st, "2")
		_, third := crdt.Lookup(st, "3")
		if second || !third {
			t.Errorf("it has the erased one: %v, the later one: %v", second, third)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if again, _ := salvageInto(t, living, disk, false); again.Put != 0 || again.There != 2 {
		t.Errorf("again: %+v", again)
	}
}

// TestNames: disks that begin alike and end otherwise go under different names, whoever takes them in, and equal ones under the same.
func TestNames(t *testing.T) {
	disk, living := newSite(t, "beijing", 0), newSite(t, "shanghai", 1)
	say := func(s *site, oid string) {
		s.put(&crdt.Op{Kind: crdt.KindMsg, Session: sessions[0], OID: oid, User: "u", Role: "user", Text: oid})
	}
	say(disk, "1")
	one, two, same := disk.copy(0), disk.copy(0), disk.copy(0)
	say(one, "2")
	say(two, "3")
	say(same, "2")
	there, names := living.copy(1), map[crdt.Origin]int{}
	for _, s := range []*site{one, two, same} {
		_, plan := salvageInto(t, living.copy(1), s, false)
		names[plan.Branches[0].As]++
		salvageInto(t, there, s, false) // one after the other
	}
	if len(names) != 2 || len(there.Origins()) != 3 {
		t.Errorf("the names are %v; all together are %v", names, there.Origins())
	}
}

// TestFloors: records that one side does not keep any more are told of, or not compared, and never taken for what they are not.
func TestFloors(t *testing.T) {
	disk := newSite(t, "beijing", 0)
	for i := range 10 {
		disk.put(&crdt.Op{Kind: crdt.KindMsg, Session: sessions[0], OID: fmt.Sprint(i), User: "u", Role: "user", Text: "x"})
	}
	o := disk.Self()
	cut := func(s *site, f uint64) {
		s.do(&machine.Command{Kind: machine.KindFloor, Floors: []machine.Floor{{Partition: part, ID: o.ID(), F: f}}})
	}
	held := disk.copy(3)
	half := newSite(t, "shanghai", 1)
	rs, err := disk.Feed(o, part, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	rs.Records = rs.Records[:4]
	if pos, ok := disk.Position(o, part, 4); ok {
		rs.Hash = pos.Hash
	}
	half.do(&machine.Command{Kind: machine.KindIngest, Records: rs})
	cut(disk, 6)
	if done, plan := salvageInto(t, half.copy(1), disk, false); len(plan.Branches) != 1 || plan.Branches[0].Missing() != 2 || done.Put != 4 {
		t.Errorf("the disk keeps the last four, the region has four: %+v, %+v", plan.Branches, done)
	}
	cut(half, 4)
	if done, plan := salvageInto(t, half.copy(1), held, false); len(plan.Branches) != 1 || plan.Branches[0].Shared != 4 || done.Put != 6 {
		t.Errorf("the region keeps nothing below where it is: %+v, %+v", plan.Branches, done)
	}
	all := newSite(t, "tianjin", 2)
	all.feed(held)
	cut(all, 9)
	short := newSite(t, "wuhan", 5)
	short.do(&machine.Command{Kind: machine.KindIngest, Records: rs})
	if done, plan := salvageInto(t, all, short, false); len(plan.Branches) != 0 || len(plan.Unsure) != 1 || done.Put != 0 {
		t.Errorf("the disk ends below what the region keeps: %+v, %+v", plan, done)
	}
	was := all.shows()
	if done, _ := salvageInto(t, all, short, true); done.Put != 4 || all.shows() != was {
		t.Errorf("taken in all the same: %+v\n%s", done, all.shows())
	}
}

// TestCausesAreWaitedFor: what depends on ops that neither the disk keeps nor the region has is not put, and said to be waiting.
func TestCausesAreWaitedFor(t *testing.T) {
	disk, living, third := newSite(t, "beijing", 0), newSite(t, "shanghai", 1), newSite(t, "tianjin", 2)
	third.put(&crdt.Op{Kind: crdt.KindMsg, Session: sessions[0], OID: "1", User: "u", Role: "user", Text: "x"})
	disk.feed(third)
	disk.put(&crdt.Op{Kind: crdt.KindMsg, Session: sessions[0], OID: "2", User: "u", Role: "user", Text: "x"})
	to := elsewhere{living, third.Self()}
	p, err := Compare(t.Context(), disk.Machine, part, to, false)
	if err != nil || len(p.Coming) != 1 || len(p.Branches) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	if done, err := p.Put(t.Context(), disk.Machine, to, 0); !errors.Is(err, ErrCauses) || done.Put != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.Put(ctx, disk.Machine, to, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	living.feed(third)
	if done, err := p.Put(t.Context(), disk.Machine, to, 0); err != nil || done.Put != 1 {
		t.Errorf("once they are there: %+v, %v", done, err)
	}
}

// elsewhere is a site to which another region gives its feed.
type elsewhere struct {
	*site
	from crdt.Origin
}

// Held implements Living.
func (e elsewhere) Held(ctx context.Context, p uint8, at []Mark) ([]Held, error) {
	all, err := e.site.Held(ctx, p, at)
	for i := range all {
		all[i].Elsewhere = at[i].Origin == e.from
	}
	return all, err
}

// TestLongBranch: many batches, of two feeds that depend on each other in turn.
func TestLongBranch(t *testing.T) {
	disk, living, third := newSite(t, "beijing", 0), newSite(t, "shanghai", 1), newSite(t, "tianjin", 2)
	for i := range 3 * batchOps {
		for _, s := range []*site{disk, third} {
			s.put(&crdt.Op{Kind: crdt.KindMsg, Session: sessions[i%3], OID: fmt.Sprint(s.name, i), User: "u", Role: "user", Text: "x"})
		}
		if i%10 == 0 {
			third.feed(disk)
			disk.feed(third)
		}
	}
	disk.feed(third)
	want := living.copy(4)
	want.feed(disk)
	if done, _ := salvageInto(t, living, disk, false); done.Put != 6*batchOps || living.shows() != want.shows() {
		t.Errorf("%+v", done)
	}
	if ends := living.Finals(part); len(ends) != 2 {
		t.Errorf("closed: %v", ends)
	}

}

// broken is a store in which some records do not read back.
type broken struct {
	machine.Store
	bad bool
}

var errBad = errors.New("bad block")

// Scan implements machine.Reader.
func (b *broken) Scan(lo, hi []byte, reverse bool, visit func(k, v []byte) bool) error {
	if b.bad && lo[0] == 0x20 { // records of feeds
		return errBad
	}
	return b.Store.Scan(lo, hi, reverse, visit)
}

// TestDiskIsBroken: what a disk does not give back is told from a region that does not answer, before anything is put and in the middle.
func TestDiskIsBroken(t *testing.T) {
	disk, living := newSite(t, "beijing", 0), newSite(t, "shanghai", 1)
	for i := range 2 * batchOps {
		disk.put(&crdt.Op{Kind: crdt.KindMsg, Session: sessions[0], OID: fmt.Sprint(i), User: "u", Role: "user", Text: "x"})
	}
	store := &broken{Store: disk.store}
	m, err := machine.New(machine.Config{Region: "beijing", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Compare(t.Context(), m, part, living, false)
	if err != nil {
		t.Fatal(err)
	}
	store.bad = true
	if _, err := Compare(t.Context(), m, part, living, false); !errors.Is(err, ErrDisk) || !errors.Is(err, errBad) {
		t.Error(err)
	}
	if done, err := plan.Put(t.Context(), m, living, 0); !errors.Is(err, ErrDisk) || done.Put != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	store.bad, living.stop = false, 2
	if done, err := plan.Put(t.Context(), m, living, 0); errors.Is(err, ErrDisk) || !errors.Is(err, context.Canceled) || done.Put != batchOps {
		t.Errorf("a region that does not answer: %+v, %v", done, err)
	}
}
