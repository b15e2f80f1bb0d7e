package replication

import (
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire/peerpb"
)

// TestAcksGoTogether: the first goes at once, those soon after it together, the newest of each feed; nothing else waits.
func TestAcksGoTogether(t *testing.T) {
	var a acks
	now := time.Unix(1, 0)
	ack := func(p uint32, f uint64) *peerpb.Want {
		return &peerpb.Want{Ack: []*peerpb.Ack{{Id: 7, Partition: p, F: f}}}
	}
	if a.holds(&peerpb.Want{Subscribe: []*peerpb.Subscribe{{}}}) || a.take(now) != nil || !a.due(time.Time{}).IsZero() {
		t.Error("a subscription waits")
	}
	if !a.holds(ack(1, 1)) || len(a.take(now).GetAck()) != 1 {
		t.Error("the first waits")
	}
	now = now.Add(acksEvery / 2)
	for _, w := range []*peerpb.Want{ack(1, 2), ack(2, 9), ack(1, 3)} {
		if !a.holds(w) || a.take(now) != nil {
			t.Error("another goes at once")
		}
	}
	due := a.due(now.Add(time.Hour))
	if got := due.Sub(now); got != acksEvery/2 || a.due(now) != now {
		t.Errorf("due in %s", got)
	}
	w := a.take(due)
	if len(w.GetAck()) != 2 || w.Ack[0].F != 3 || w.Ack[1].F != 9 || a.take(due) != nil {
		t.Errorf("together: %v", w)
	}
}

// TestAcksAreToldOfOnce: whoever watches what is where looks once a message, and not if nothing in it is new.
func TestAcksAreToldOfOnce(t *testing.T) {
	m, told := newMatrix(), 0
	m.watch(func() { told++ })
	all := []acked{{1, 0, 5}, {1, 1, 7}, {2, 0, 9}}
	m.acks("shanghai", 1, all)
	m.acks("shanghai", 1, all)
	if told != 1 {
		t.Errorf("told %d times of cursors that grew in one message", told)
	}
	m.acks("shanghai", 1, []acked{{1, 0, 4}, {2, 0, 10}})
	if r := m.known.Holders(crdt.Dot{Origin: "a.1", ID: 2, F: 10}, "beijing", nil); told != 2 || r != 2 {
		t.Errorf("told %d times, %d regions hold it", told, r)
	}
}
