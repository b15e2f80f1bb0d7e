package feeds

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// GossipEvery is how often a leader looks what of the matrix has changed. A row that has to take a way round through a third
	// region waits for this twice.
	GossipEvery = 100 * time.Millisecond
	// idleEvery is how often a node is sent a datagram that has nothing new in it: the way is measured on these.
	idleEvery = 2 * time.Second
	// mateLife is for how long a node counts as a leader after it was heard.
	mateLife = 5 * time.Second
	// repeats is how often a change is sent: datagrams are lost.
	repeats = 3
	// MaxDatagram bounds a datagram: with what gossip and IP add it is not fragmented.
	MaxDatagram = 1200
	// maxBurst bounds the datagrams for one node at a time; the rest goes the next time.
	maxBurst = 8
	// maxMates bounds the nodes that are remembered. There are as many as membership admits.
	maxMates = 1024
	// maxHears bounds the regions that a datagram says are heard; of others it gets rows that it does not need.
	maxHears = 32
)

// View is what a node knows when it gossips.
type View struct {
	Led     uint64        // partitions that it leads, a bit each: its own region's rows are true of these
	Origins []crdt.Origin // that its region knows
	Hears   []string      // regions whose heads come over streams, of all these partitions
	Nodes   []string      // live nodes of other regions that hold data, as region/node
	Busy    bool          // ops are being committed: the ways are measured more often
}

// Datagram is for a node, as region/node.
type Datagram struct {
	To   string
	Body *peerpb.Gossip
}

// Gossip decides what a node that leads tells nodes of other regions of the matrix, beside the streams and where there are none: what
// each has not been sent yet, a few times, since datagrams are lost. Who hears a region over a stream is not told of it. It
// measures the ways at the same time.
type Gossip struct {
	region, name string
	run          uint32
	start        time.Time
	local        interface {
		Self(partition uint8) crdt.Origin
		Cursors(partition uint8) crdt.Vector
	}
	mates map[string]*mate
}

// mate is another region's node.
type mate struct {
	name, region string
	seq          uint32    // of the last datagram to it
	due          time.Time // when it is sent one even if there is nothing new
	sent         map[rowKey]*toldRow
	health       Health
	in           window

	// what it said last
	run   uint32
	led   uint64
	hears map[uint32]bool
	stamp uint32 // to be echoed; 0: it was
	came  time.Time
}

type rowKey struct {
	region string
	origin crdt.OriginID
}

// toldRow is what a mate was told of a row.
type toldRow struct {
	epochs, f Row
	fresh     uint64 // partitions that are sent again, a bit each
	left      int    // how often
}

// NewGossip is for a process: of a node, region/node, with a number that no process of it had before.
func NewGossip(name string, run uint32, local Local, now time.Time) *Gossip {
	region, _, _ := strings.Cut(name, "/")
	return &Gossip{region: region, name: name, run: run, start: now, local: local, mates: map[string]*mate{}}
}

// clock is a moment as a stamp, never 0.
func (g *Gossip) clock(now time.Time) uint32 {
	return max(uint32(now.Sub(g.start).Microseconds()&math.MaxUint32), 1)
}

func (g *Gossip) mate(name string) *mate {
	m := g.mates[name]
	if m == nil {
		region, _, _ := strings.Cut(name, "/")
		m = &mate{name: name, region: region, sent: map[rowKey]*toldRow{}}
		g.mates[name] = m
	}
	return m
}

// Tick returns the datagrams that are to be sent now.
func (g *Gossip) Tick(m *Matrix, v View, now time.Time) (out []Datagram) {
	if v.Led == 0 {
		return nil
	}
	g.prune(v.Nodes, now)
	targets := g.targets(v, now)
	rows := g.rows(m, v, func(region string) bool {
		return slices.ContainsFunc(targets, func(to *mate) bool { return to.needs(region, v.Led, now) })
	})
	for _, to := range targets {
		out = append(out, g.tell(to, rows, v, now)...)
	}
	return out
}

// needs reports whether a node is to be told of a region: it gets no heads of it over a stream.
func (m *mate) needs(region string, led uint64, now time.Time) bool {
	return region != m.region && !(m.hears[hashOf(region)] && m.leads(led, now))
}

// prune forgets nodes that are gone.
func (g *Gossip) prune(nodes []string, now time.Time) {
	maps.DeleteFunc(g.mates, func(name string, m *mate) bool {
		return !slices.Contains(nodes, name) && now.Sub(m.health.Heard) > mateLife
	})
}

// targets are the leaders of each region, as far as they are known, else all of its nodes.
func (g *Gossip) targets(v View, now time.Time) (all []*mate) {
	led := map[string]uint64{}
	for _, m := range g.mates {
		if m.leads(v.Led, now) {
			led[m.region] |= m.led
		}
	}
	for _, name := range v.Nodes {
		if m := g.mate(name); m.region != g.region && (m.leads(v.Led, now) || v.Led&^led[m.region] != 0) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *mate) int { return strings.Compare(a.name, b.name) })
	return all
}

func (m *mate) leads(partitions uint64, now time.Time) bool {
	return m.led&partitions != 0 && now.Sub(m.health.Heard) < mateLife
}

// knownRow is a row that can be told.
type knownRow struct {
	rowKey
	epochs *Row
	f      Row
}

// rows is what this node knows: its own region's cursors of the partitions that it leads, and those of others as it heard them; of
// the regions that are asked for.
func (g *Gossip) rows(m *Matrix, v View, of func(region string) bool) (all []knownRow) {
	if of(g.region) {
		all = g.own(v)
	}
	m.Rows(func(region string, epochs *Row, id crdt.OriginID, f Row) {
		if region != g.region && of(region) {
			all = append(all, knownRow{rowKey{region, id}, epochs, f})
		}
	})
	slices.SortFunc(all, func(a, b knownRow) int {
		return cmp.Or(strings.Compare(a.region, b.region), cmp.Compare(a.origin, b.origin))
	})
	return all
}

func (g *Gossip) own(v View) (all []knownRow) {
	epochs := &Row{}
	for p := range uint8(crdt.Partitions) {
		epochs[p] = g.local.Self(p).Incarnation()
	}
	for _, o := range v.Origins {
		k := knownRow{rowKey: rowKey{g.region, o.ID()}, epochs: epochs}
		for p := range uint8(crdt.Partitions) {
			if v.Led&(1<<p) != 0 && epochs[p] != 0 {
				k.f[p] = g.local.Cursors(p)[k.origin]
			}
		}
		all = append(all, k)
	}
	return all
}

// tell returns the datagrams for a node: what it has not been told, and a sign of life when it is time for one.
func (g *Gossip) tell(to *mate, rows []knownRow, v View, now time.Time) (out []Datagram) {
	var d *peerpb.Gossip
	size := 0
	for i := range rows {
		k := &rows[i]
		if !to.needs(k.region, v.Led, now) {
			continue
		}
		for _, row := range to.changed(k, v.Led) {
			n := proto.Size(row) + 4
			if d == nil || size+n > MaxDatagram {
				if len(out) == maxBurst {
					to.owe(k) // and what follows is not noted as told at all
					return out
				}
				d, size = g.datagram(to, v, now), n+g.overhead(v)
				out = append(out, Datagram{to.name, d})
			}
			d.Rows, size = append(d.Rows, row), size+n
		}
	}
	if d == nil && !now.Before(to.due) {
		out = append(out, Datagram{to.name, g.datagram(to, v, now)})
	}
	if len(out) > 0 {
		to.due = now.Add(idleEvery)
		if v.Busy {
			to.due = now.Add(GossipEvery)
		}
	}
	return out
}

// overhead bounds what a datagram has beside rows.
func (g *Gossip) overhead(v View) int { return 100 + len(g.name) + 4*min(len(v.Hears), maxHears) }

// changed notes a row as told, and returns of it what is new to the node, or has to be repeated.
func (m *mate) changed(k *knownRow, led uint64) []*peerpb.Row {
	t := m.sent[k.rowKey]
	if t == nil {
		t = &toldRow{}
		m.sent[k.rowKey] = t
	}
	news := uint64(0)
	for p := range k.f {
		if led&(1<<p) != 0 && (t.f[p] != k.f[p] || t.epochs[p] != k.epochs[p]) {
			news |= 1 << p
			t.f[p], t.epochs[p] = k.f[p], k.epochs[p]
		}
	}
	if news != 0 {
		t.fresh, t.left = t.fresh|news, repeats
	}
	if t.left == 0 {
		return nil
	}
	parts := t.fresh
	if t.left--; t.left == 0 {
		t.fresh = 0
	}
	return RowsOf(k.region, k.epochs, k.origin, &k.f, parts)
}

// owe has a row sent the next time: there was no room for it.
func (m *mate) owe(k *knownRow) { delete(m.sent, k.rowKey) }

// datagram is one for a node, without rows.
func (g *Gossip) datagram(to *mate, v View, now time.Time) *peerpb.Gossip {
	to.seq++
	d := &peerpb.Gossip{From: g.name, Run: g.run, Led: v.Led, Seq: to.seq, Stamp: g.clock(now), Echo: to.echo(now)}
	for _, region := range v.Hears[:min(len(v.Hears), maxHears)] {
		d.Hears = append(d.Hears, hashOf(region))
	}
	return d
}

// Fresh is a datagram with records that have just been committed.
func (g *Gossip) Fresh(to string, r *peerpb.Records, v View, now time.Time) Datagram {
	d := g.datagram(g.mate(to), v, now)
	d.Fresh = r
	return Datagram{to, d}
}

// Whole is all that this node knows, for when membership is levelled.
func (g *Gossip) Whole(m *Matrix, v View) *peerpb.Gossip {
	d := &peerpb.Gossip{From: g.name, Run: g.run, Led: v.Led}
	for _, k := range g.rows(m, v, func(string) bool { return true }) {
		parts := All
		if k.region == g.region {
			parts = v.Led
		}
		d.Rows = append(d.Rows, RowsOf(k.region, k.epochs, k.origin, &k.f, parts)...)
	}
	return d
}

// Take learns from a datagram, or from what Whole was elsewhere, and reports whether the matrix grew. It returns what this node's
// region has lost, if others show that it held more.
func (g *Gossip) Take(m *Matrix, d *peerpb.Gossip, led uint64, now time.Time) (grew bool, lost []*Renew, err error) {
	region, node, ok := strings.Cut(d.From, "/")
	if !ok || !crdt.ValidRegion(region) || node == "" || region == g.region {
		return false, nil, fmt.Errorf("%w: gossip from %q", ErrMessage, d.From)
	}
	from := g.mates[d.From]
	if d.Seq != 0 && (from != nil || len(g.mates) < maxMates) {
		from = g.mate(d.From)
		from.took(d, now, g.clock(now))
		from.led, from.hears = d.Led, map[uint32]bool{}
		for _, h := range d.Hears[:min(len(d.Hears), maxHears)] {
			from.hears[h] = true
		}
	}
	for _, row := range d.Rows {
		if row.Region == g.region {
			lost = g.compare(row, led, lost)
			continue
		}
		more, err := m.Hear(row)
		if err != nil {
			return grew, lost, err
		}
		grew = grew || more
		if from != nil && d.Seq != 0 {
			from.knows(row)
		}
	}
	return grew, lost, nil
}

// knows notes a row that came from a node as told to it: it need not be sent back.
func (m *mate) knows(row *peerpb.Row) {
	k := rowKey{row.Region, crdt.OriginID(row.Origin)}
	t := m.sent[k]
	if t == nil {
		t = &toldRow{}
		m.sent[k] = t
	}
	_ = Cells(row, func(p uint8, f uint64) { // it is well formed: the matrix has taken it
		if row.Epoch > t.epochs[p] || row.Epoch == t.epochs[p] && f > t.f[p] {
			t.epochs[p], t.f[p] = row.Epoch, f
		}
	})
}

// compare holds what others say of this region against what it has. An epoch after its own, or a cursor above its own under
// that, shows that its disks went back, or were lost while its clock was wrong: it goes on under a later incarnation, or else what it
// held then would count for ever. Only partitions that this node leads are compared.
func (g *Gossip) compare(row *peerpb.Row, led uint64, lost []*Renew) []*Renew {
	_ = Cells(row, func(p uint8, f uint64) { // one that is not well formed says nothing
		self := g.local.Self(p)
		own := self.Incarnation()
		ahead := row.Epoch > own || row.Epoch == own && f > g.local.Cursors(p)[crdt.OriginID(row.Origin)]
		if own == 0 || led&(1<<p) == 0 || !ahead || slices.ContainsFunc(lost, func(r *Renew) bool { return r.Lost == self }) {
			return
		}
		lost = append(lost, &Renew{Lost: self, Above: row.Epoch, Why: fmt.Sprintf("other regions know that partition %d was further here", p)})
	})
	return lost
}

// Ways is how the ways to other regions' nodes are, by region/node: those that were heard lately.
func (g *Gossip) Ways(now time.Time) map[string]Health {
	all := map[string]Health{}
	for name, m := range g.mates {
		if m.led != 0 && now.Sub(m.health.Heard) < mateLife {
			all[name] = m.health
		}
	}
	return all
}

// Lossy are the nodes that lead some of these partitions, a bit each, and to which enough is lost.
func (g *Gossip) Lossy(partitions uint64, now time.Time) (all []string) {
	for name, m := range g.mates {
		if m.leads(partitions, now) && m.health.MeasuredO >= minMeasured && m.health.LossOut >= EagerLoss {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func hashOf(region string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(region)) // never fails
	return h.Sum32()
}
