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

// putAt is about when ops were put.
var putAt = time.UnixMilli(1_700_000_000_000)

// held is a region by its cursors.
type held struct {
	self    crdt.Origin
	cursors [crdt.Partitions]crdt.Vector
}

func (h *held) Origins() []crdt.Origin { return []crdt.Origin{h.self, crdt.NewOrigin("shanghai", 1)} }
func (h *held) Feed(o crdt.Origin, p uint8, from uint64, _ int) (rs wire.Records, err error) {
	for f := from; f <= h.cursors[p][o.ID()] && f < from+2; f++ { // two go into the sample
		op := crdt.Op{Kind: crdt.KindMsg, Session: "u/s", OID: "o", Stamp: crdt.StampAt(putAt), TS: putAt.Add(time.Duration(f) * time.Second).UnixMilli()}
		rs.Records = append(rs.Records, wire.Record{Op: op.Encode()}.Encode())
	}
	return rs, nil
}
func (h *held) Position(crdt.Origin, uint8, uint64) (wire.Position, bool) {
	return wire.Position{}, false
}
func (h *held) Watch(func([]wire.Event)) (stop func())                   { return func() {} }
func (h *held) Self(uint8) crdt.Origin                                   { return h.self }
func (h *held) Cursors(p uint8) crdt.Vector                              { return h.cursors[p] }
func (h *held) Ingest(context.Context, wire.Records) (uint64, error)     { return 0, nil }
func (h *held) Renew(context.Context, crdt.Origin, uint64, string) error { return nil }

func TestLag(t *testing.T) {
	ours, theirs := crdt.NewOrigin("beijing", 1), crdt.NewOrigin("shanghai", 1)
	h := &held{self: ours}
	h.cursors[3] = crdt.Vector{ours.ID(): 10, theirs.ID(): 5}
	m := newMatrix()
	l := newLag("beijing", h, h, m, time.Now)
	now, n := time.Now(), lane{"shanghai", feeds.All}
	m.acks("shanghai", 1, []acked{{ours.ID(), 3, 7}})
	m.acks("shanghai", 1, []acked{{theirs.ID(), 3, 5}})
	l.heard(n, now)
	size := uint64(len(wire.Record{Op: (&crdt.Op{Kind: crdt.KindMsg, Session: "u/s", OID: "o", Stamp: crdt.StampAt(putAt), TS: putAt.UnixMilli()}).Encode()}.Encode()))
	if b, a := l.behind(n), l.ahead(n); b != 0 || a.ops != 3 || a.bytes < 3*size || a.bytes > 3*(size+4) {
		t.Errorf("behind %d, ahead %+v; want 0, and 3 of %d bytes or little more", b, a, size)
	}
	if age := l.ahead(n).age(putAt.Add(20 * time.Second)); age != 12 {
		t.Errorf("the oldest, number 8, is %v s old", age)
	}
	m.acks("shanghai", 1, []acked{{theirs.ID(), 3, 9}})
	m.acks("shanghai", 1, []acked{{theirs.ID(), 4, 1}})
	l.heard(n, now.Add(time.Second))
	if b := l.behind(n); b != 5 {
		t.Errorf("behind %d, want 5", b)
	}
	if b, a := l.behind(lane{"shanghai", 1 << 4}), l.ahead(lane{"shanghai", 1 << 4}); b != 1 || a != (unacked{}) {
		t.Errorf("in partition 4 behind %d, ahead %+v; want 1, nothing", b, a)
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
	if n := testutil.CollectAndCount(l); n != 6 {
		t.Errorf("%d metrics, want 6", n)
	}
}
