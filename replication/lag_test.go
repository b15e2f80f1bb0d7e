package replication

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
)

// held is a region by its cursors.
type held struct {
	self    crdt.Origin
	cursors [crdt.Partitions]crdt.Vector
}

func (h *held) Self(uint8) crdt.Origin                                   { return h.self }
func (h *held) Cursors(p uint8) crdt.Vector                              { return h.cursors[p] }
func (h *held) Ingest(context.Context, wire.Records) (uint64, error)     { return 0, nil }
func (h *held) Renew(context.Context, crdt.Origin, uint64, string) error { return nil }

func TestLag(t *testing.T) {
	ours, theirs := crdt.NewOrigin("beijing", 1), crdt.NewOrigin("shanghai", 1)
	h := &held{self: ours}
	h.cursors[3] = crdt.Vector{ours.ID(): 10, theirs.ID(): 5}
	m := newMatrix()
	l := newLag(h, m)
	now, n := time.Now(), lane{"shanghai", feeds.All}
	m.ack("shanghai", 1, ours.ID(), 3, 7)
	m.ack("shanghai", 1, theirs.ID(), 3, 5)
	l.heard(n, now)
	if b, a := l.behind(n), l.ahead(n); b != 0 || a != 3 {
		t.Errorf("behind %d, ahead %d; want 0, 3", b, a)
	}
	m.ack("shanghai", 1, theirs.ID(), 3, 9)
	m.ack("shanghai", 1, theirs.ID(), 4, 1)
	l.heard(n, now.Add(time.Second))
	if b := l.behind(n); b != 5 {
		t.Errorf("behind %d, want 5", b)
	}
	if b, a := l.behind(lane{"shanghai", 1 << 4}), l.ahead(lane{"shanghai", 1 << 4}); b != 1 || a != 0 {
		t.Errorf("in partition 4 behind %d, ahead %d; want 1, 0", b, a)
	}
	p := *l.lanes[n]
	if s := p.seconds(now.Add(time.Second), 5); s != 1 {
		t.Errorf("behind for %v s, want 1", s)
	}
	level := pace{heard: now, even: now}
	if s := level.seconds(now.Add(time.Second), 0); s != 0 {
		t.Errorf("level, yet behind for %v s", s)
	}
	if s := level.seconds(now.Add(time.Minute), 0); s != 60 {
		t.Errorf("silent for a minute, behind for %v s", s)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(l)
	if n := testutil.CollectAndCount(l); n != 4 {
		t.Errorf("%d metrics, want 4", n)
	}
}
