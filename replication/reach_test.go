package replication

import (
	"context"
	"log/slog"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/roamsync/roam/crdt"
)

// gaveUp is a roster by which regions were met, and given up.
type gaveUp struct {
	met []string
	ev  crdt.Evictions
}

func (g *gaveUp) Peers() []string                           { return g.met }
func (g *gaveUp) AddPeer(_ context.Context, r string) error { g.met = append(g.met, r); return nil }
func (g *gaveUp) Evictions(uint8) crdt.Evictions            { return g.ev }
func (g *gaveUp) Self(uint8) crdt.Origin                    { return "beijing.5" }

// TestRegionsThatCount: a region counts from when it is met, heard of or owed an answer, and until it is given up.
func TestRegionsThatCount(t *testing.T) {
	r := &gaveUp{ev: crdt.Evictions{}}
	p := &Pool{
		cfg:     PoolConfig{Region: "beijing", Node: "n1", Roster: r, Logger: slog.New(slog.DiscardHandler)},
		changed: make(chan struct{}, 1), fatal: make(chan error, 1),
		peers: map[string]peer{}, met: map[string]struct{}{"beijing": {}}, owed: map[string]struct{}{"seed:1": {}},
	}
	want := func(n int, when string) {
		t.Helper()
		if got := p.configured(); got != n {
			t.Errorf("%s: %d regions count, want %d", when, got, n)
		}
	}
	want(1, "a seed has not answered")
	p.heard(&memberlist.Node{Name: "shanghai/n1", Meta: []byte("{}")}, true)
	want(2, "a region was heard of")
	p.answered("seed:1")
	want(1, "the seed has answered")
	p.heard(&memberlist.Node{Name: "shanghai/n2", Meta: []byte("{}")}, true)
	p.heard(&memberlist.Node{Name: "beijing/n2", Meta: []byte("{}")}, true)
	want(1, "more nodes of known regions")
	r.met = []string{"chengdu"}
	if err := p.Settle(); err != nil {
		t.Fatal(err)
	}
	want(2, "the log has told of a region")
	r.ev = crdt.Evictions{"shanghai": {Bound: 7}}
	want(1, "a region was given up")
	if regions, _ := p.peerRegions(); len(regions) != 1 || len(p.allMet()) != 2 {
		t.Errorf("%v count, of %v", regions, p.allMet())
	}
	r.ev = crdt.Evictions{"shanghai": {Bound: 7, Back: 8}}
	want(2, "it is back")
}

// BenchmarkReach is what each op costs whose client waits for it to be safe, whenever anything is acknowledged.
func BenchmarkReach(b *testing.B) {
	p := &Pool{
		cfg: PoolConfig{Region: "beijing", Roster: &gaveUp{}}, matrix: newMatrix(),
		met: map[string]struct{}{"shanghai": {}, "chengdu": {}}, peers: map[string]peer{"shanghai/n1": {Region: "shanghai"}, "chengdu/n1": {Region: "chengdu"}},
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Reach(crdt.Dot{F: 1})
	}
}
