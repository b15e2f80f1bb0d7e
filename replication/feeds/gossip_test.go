package feeds

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire/peerpb"
)

// far is a region by its cursors, and the node that leads it.
type far struct {
	Local // nil: gossip asks for no more than what follows
	self  crdt.Origin
	have  [crdt.Partitions]crdt.Vector
	g     *Gossip
	m     Matrix
}

func (r *far) Self(uint8) crdt.Origin      { return r.self }
func (r *far) Cursors(p uint8) crdt.Vector { return r.have[p] }
func (r *far) set(o crdt.Origin, p uint8, f uint64) {
	r.have[p] = crdt.Vector{o.ID(): f}
}

var regions = []string{"beijing", "shanghai", "guangzhou"}

var aDay = time.Unix(1_000_000, 0)

func newFar(region string, incarnation uint64, now time.Time) *far {
	r := &far{self: crdt.NewOrigin(region, incarnation)}
	r.g = NewGossip(region+"/n1", uint32(incarnation), r, now)
	return r
}

func (r *far) view(origins []crdt.Origin, hears ...string) View {
	v := View{Led: All, Origins: origins, Hears: hears}
	for _, o := range regions {
		if name := o + "/n1"; name != r.g.name {
			v.Nodes = append(v.Nodes, name)
		}
	}
	return v
}

// TestRowsGoRound: what a region has reaches one that hears nothing of it through a third, in two looks and the ways; and costs
// nothing once it is known.
func TestRowsGoRound(t *testing.T) {
	now, all := aDay, map[string]*far{}
	var origins []crdt.Origin
	for i, name := range regions {
		r := newFar(name, uint64(i+1), now)
		all[name+"/n1"] = r
		origins = append(origins, r.self)
	}
	a, b := all["beijing/n1"], all["shanghai/n1"]
	a.set(a.self, 7, 3)
	rows, took := 0, 0
	for look := range 20 {
		now = now.Add(GossipEvery)
		for _, name := range regions {
			r := all[name+"/n1"]
			for _, d := range r.g.Tick(&r.m, r.view(origins), now) {
				if n := proto.Size(d.Body); n > MaxDatagram {
					t.Errorf("a datagram of %d bytes", n)
				}
				rows += len(d.Body.Rows)
				if d.To == "guangzhou/n1" || name == "guangzhou" { // beijing and shanghai do not reach each other
					to := all[d.To]
					if _, lost, err := to.g.Take(&to.m, d.Body, All, now); err != nil || len(lost) > 0 {
						t.Fatal(lost, err)
					}
				}
			}
		}
		if b.m.Holders(crdt.Dot{Origin: b.self, ID: a.self.ID(), Partition: 7, F: 3}, "shanghai", nil) > 0 && took == 0 {
			took = look + 1
		}
		if look == 12 {
			rows = 0
		}
	}
	if took == 0 || took > 2 {
		t.Errorf("it took %d looks", took)
	}
	if rows > 0 {
		t.Errorf("%d rows are sent although nothing changes", rows)
	}
}

// TestHeardOverStreams: whoever has a stream is not told again of what comes over it.
func TestHeardOverStreams(t *testing.T) {
	now := aDay
	a, b := newFar("beijing", 1, now), newFar("shanghai", 1, now)
	a.set(a.self, 0, 5)
	for _, d := range b.g.Tick(&b.m, b.view(nil, "beijing"), now) {
		if d.To == "beijing/n1" {
			_, _, _ = a.g.Take(&a.m, d.Body, All, now)
		}
	}
	for _, d := range a.g.Tick(&a.m, a.view([]crdt.Origin{a.self}), now) {
		if told := len(d.Body.Rows) > 0; told != (d.To == "guangzhou/n1") {
			t.Errorf("%s is told: %t", d.To, told)
		}
	}
}

// TestEpochs: rows of a region come in any order, any number of times, by any way. What is believed is the greatest of the latest
// incarnation, and nothing of those before.
func TestEpochs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Matrix
		o := crdt.NewOrigin("beijing", 1)
		latest, top := uint64(0), uint64(0)
		for range rapid.IntRange(1, 30).Draw(t, "n") {
			epoch, f := rapid.Uint64Range(1, 4).Draw(t, "epoch"), rapid.Uint64Range(0, 9).Draw(t, "f")
			grew, err := m.Hear(&peerpb.Row{Region: "shanghai", Epoch: epoch, Origin: uint32(o.ID()), Parts: 1 << 5, F: []uint64{f}})
			if err != nil {
				t.Fatal(err)
			}
			if epoch > latest {
				latest, top = epoch, 0
			}
			if want := epoch == latest && f > top; grew != want {
				t.Fatalf("epoch %d, cursor %d: grew is %t", epoch, f, grew)
			}
			if epoch == latest {
				top = max(top, f)
			}
			for g := uint64(1); g < 10; g++ {
				if held := m.Holders(crdt.Dot{Origin: o, ID: o.ID(), Partition: 5, F: g}, "beijing", nil) == 1; held != (g <= top) {
					t.Fatalf("epoch %d up to %d, and %d is held: %t", latest, top, g, held)
				}
			}
		}
	})
}

// TestHomeThatLostItsDisks: a dot's home has it, until it goes on under a later incarnation without it.
func TestHomeThatLostItsDisks(t *testing.T) {
	var m Matrix
	o := crdt.NewOrigin("shanghai", 1)
	dot := crdt.Dot{Origin: o, ID: o.ID(), F: 3}
	for _, c := range []struct{ epoch, f, holders uint64 }{{1, 0, 1}, {2, 0, 0}, {2, 2, 0}, {2, 3, 1}} {
		m.Ack("shanghai", c.epoch, o.ID(), 0, c.f)
		if got := m.Holders(dot, "beijing", nil); uint64(got) != c.holders {
			t.Errorf("epoch %d, cursor %d: %d holders", c.epoch, c.f, got)
		}
	}
}

// TestGossipFences: a region that others know with more, or later, than it is, has lost its disks.
func TestGossipFences(t *testing.T) {
	for _, c := range []struct {
		name     string
		epoch, f uint64
		led      uint64
		lost     bool
	}{
		{"as it is", 5, 3, All, false}, {"more", 5, 4, All, true}, {"later", 6, 0, All, true}, {"before", 4, 9, All, false},
		{"of another leader's partition", 6, 9, 1 << 3, false},
	} {
		a := newFar("beijing", 5, aDay)
		a.set(a.self, 2, 3)
		_, lost, err := a.g.Take(&a.m, &peerpb.Gossip{From: "shanghai/n1", Rows: []*peerpb.Row{
			{Region: "beijing", Epoch: c.epoch, Origin: uint32(a.self.ID()), Parts: 1 << 2, F: []uint64{c.f}},
		}}, c.led, aDay)
		if err != nil || (len(lost) > 0) != c.lost || c.lost && (lost[0].Lost != a.self || lost[0].Above != c.epoch) {
			t.Errorf("%s: %v, %v", c.name, lost, err)
		}
	}
}

// TestRowsAreBounded: whatever a datagram says, it is taken or refused.
func TestRowsAreBounded(t *testing.T) {
	for _, row := range []*peerpb.Row{
		{Region: "NO", F: []uint64{1}}, {Region: "shanghai", Parts: 3, F: []uint64{1}}, {Region: "shanghai", Parts: 1, F: []uint64{1, 2}},
		{Region: "shanghai", F: make([]uint64, 65)},
	} {
		if _, err := new(Matrix).Hear(row); err == nil {
			t.Errorf("%v is taken", row)
		}
	}
	a := newFar("beijing", 1, aDay)
	for _, from := range []string{"", "shanghai", "shanghai/", "beijing/n2", "NO/n1"} {
		if _, _, err := a.g.Take(&a.m, &peerpb.Gossip{From: from, Seq: 1}, All, aDay); err == nil {
			t.Errorf("gossip from %q is taken", from)
		}
	}
	for i := range 2 * maxMates {
		_, _, _ = a.g.Take(&a.m, &peerpb.Gossip{From: fmt.Sprintf("shanghai/n%d", i), Seq: 1}, All, aDay)
	}
	if len(a.g.mates) > maxMates {
		t.Errorf("%d nodes are remembered", len(a.g.mates))
	}
}

// TestLossIsMeasured: of each direction by itself, and the round trip with them, whatever order datagrams come in.
func TestLossIsMeasured(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := aDay
		a, b := newFar("beijing", 1, now), newFar("shanghai", 1, now)
		every := rapid.IntRange(2, 100).Draw(t, "every")
		const delay = 15 * time.Millisecond
		for i := range 3 * lossWindow {
			to := a.g.mate("shanghai/n1")
			d := a.g.datagram(to, View{Led: All}, now)
			if i%every != every-1 {
				_, _, _ = b.g.Take(&b.m, d, All, now.Add(delay))
			}
			back := b.g.datagram(b.g.mate("beijing/n1"), View{Led: All}, now.Add(2*delay))
			now = now.Add(3 * delay)
			_, _, _ = a.g.Take(&a.m, back, All, now)
		}
		h := a.g.Ways(now)["shanghai/n1"]
		if want := 1 / float64(every); h.LossOut < want-0.01 || h.LossOut > want+0.01 || h.LossIn != 0 {
			t.Errorf("one of %d is lost: %.4f, and back %.4f", every, h.LossOut, h.LossIn)
		}
		if h.RTT < 2*delay-time.Millisecond || h.RTT > 2*delay+time.Millisecond {
			t.Errorf("a round trip of %s, measured as %s", 2*delay, h.RTT)
		}
		if got := len(a.g.Lossy(All, now)) > 0; got != (h.LossOut >= EagerLoss) {
			t.Errorf("loss of %f, lossy: %t", h.LossOut, got)
		}
	})
}

// TestPulse: heads are said when they change, and now and then that they have not.
func TestPulse(t *testing.T) {
	var b Pulse
	h := func(f uint64) *peerpb.Heads {
		return &peerpb.Heads{Epoch: 1, Heads: []*peerpb.Head{{Origin: "a", F: []uint64{f}}, {Origin: "b", F: []uint64{1}}}}
	}
	if have := b.Beat(h(1)); have == nil || !have.Heads.Whole || len(have.Heads.Heads) != 2 {
		t.Errorf("the first says %v", have)
	}
	if have := b.Beat(h(2)); have == nil || have.Heads.Whole || len(have.Heads.Heads) != 1 {
		t.Errorf("a change says %v", have)
	}
	said, whole := 0, 0
	for range quietBeats * (wholeBeats + 1) {
		if have := b.Beat(h(2)); have != nil {
			said++
			if have.Heads != nil {
				whole++
			}
		}
	}
	if said != wholeBeats+1 || whole != 1 {
		t.Errorf("without a change %d heartbeats, %d of all heads", said, whole)
	}
	if have := b.Beat(&peerpb.Heads{Epoch: 2}); have == nil || !have.Heads.Whole {
		t.Errorf("another incarnation says %v", have)
	}
}

// TestManyLivesCostLittle: what hundreds of incarnations have numbered long ago is said again, but costs no more than what few have.
func TestManyLivesCostLittle(t *testing.T) {
	for _, lives := range []int{3, 30, 300} {
		all, size, whole := &peerpb.Heads{Epoch: 1}, 0, 0
		for i := range lives {
			h := &peerpb.Head{Origin: fmt.Sprintf("beijing.%016x", 1<<60+i)}
			for range crdt.Partitions {
				h.F, h.Final = append(h.F, 1000), append(h.Final, 1001)
			}
			all.Heads = append(all.Heads, h)
		}
		var b Pulse
		b.Beat(all) // when a stream begins
		seconds := max(60, 4*proto.Size(all)/againRate)
		for range 4 * seconds {
			if have := b.Beat(all); have != nil {
				size += proto.Size(have)
				if have.GetHeads().GetWhole() {
					whole++
				}
			}
		}
		if rate := size / seconds; whole < 3 || rate > againRate {
			t.Errorf("%d incarnations: all was said %d times in %d s, at %d bytes a second", lives, whole, seconds, rate)
		}
	}
}

// TestAgain: what is long is said more seldom.
func TestAgain(t *testing.T) {
	var a Again
	now, said := time.Unix(0, 0), 0
	for range 3600 {
		if now = now.Add(time.Second); a.May(60*againRate, now) {
			said++
		}
	}
	if said != 60 {
		t.Errorf("said %d times in an hour", said)
	}
}
