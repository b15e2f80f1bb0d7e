package gateway

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// hub brings the region's events to the connections that have their sessions open. Its methods only take locks and
// append to bounded queues: deliver runs on the region's apply goroutine.
type hub struct {
	cursors func(uint8) crdt.Vector
	finals  func(uint8) crdt.Finals
	traces  *tracing
	watched watching
	open    prometheus.Gauge
	shards  [crdt.Partitions]shard

	mu      sync.Mutex
	tags    map[uint64]ticket // puts under way
	lastTag uint64
}

// shard is one partition's part of the hub.
type shard struct {
	mu      sync.Mutex
	subs    map[string][]*sub // in the order they came
	last    uint64            // order of the last that came
	waiting []waiter          // whose client has seen what is not here yet
}

// waiter is a sub, and what it waits for: as it was then, since the sub is its connection's.
type waiter struct {
	sub *sub
	all crdt.Vector
}

// ticket is a put under way.
type ticket struct {
	conn    *Conn
	id      int64
	regions int
	since   time.Duration // since the gateway was made
	watched bool          // it has a span
}

func newHub(cursors func(uint8) crdt.Vector, finals func(uint8) crdt.Finals, traces *tracing, open prometheus.Gauge) *hub {
	h := &hub{
		cursors: cursors, finals: finals, traces: traces, watched: watching{spans: map[uint64]trace.Span{}}, open: open,
		tags: map[uint64]ticket{},
	}
	for i := range h.shards {
		h.shards[i].subs = map[string][]*sub{}
	}
	return h
}

func (h *hub) add(s *sub) {
	sh := &h.shards[s.partition]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.last++
	s.order = sh.last
	sh.subs[s.session] = append(sh.subs[s.session], s)
	h.open.Inc()
}

func (h *hub) remove(s *sub) {
	sh := &h.shards[s.partition]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i, there := sh.find(s)
	if !there {
		return
	}
	h.open.Dec()
	if sh.subs[s.session] = slices.Delete(sh.subs[s.session], i, i+1); len(sh.subs[s.session]) == 0 {
		delete(sh.subs, s.session)
	}
	sh.waiting = slices.DeleteFunc(sh.waiting, func(w waiter) bool { return w.sub == s })
}

// has reports whether anybody has a session open.
func (h *hub) has(session string) bool {
	sh := &h.shards[crdt.PartitionOf(session)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return len(sh.subs[session]) > 0
}

// find returns where a sub is among those of its session, if it is. mu is held.
func (sh *shard) find(s *sub) (int, bool) {
	return slices.BinarySearchFunc(sh.subs[s.session], s.order, func(o *sub, order uint64) int { return cmp.Compare(o.order, order) })
}

// await has the sub told once the region's cursors cover what its client came with.
func (h *hub) await(s *sub) {
	sh, all := &h.shards[s.partition], s.left.Clone()
	sh.mu.Lock()
	if _, there := sh.find(s); there { // else its client has closed it meanwhile, and nobody would take it out again
		sh.waiting = append(sh.waiting, waiter{s, all})
	}
	sh.mu.Unlock()
	h.wake(s.partition) // the cursors may have got there in between
}

// leave ends that.
func (h *hub) leave(s *sub) {
	sh := &h.shards[s.partition]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.waiting = slices.DeleteFunc(sh.waiting, func(w waiter) bool { return w.sub == s })
}

func (h *hub) wake(p uint8) {
	sh := &h.shards[p]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.waiting) == 0 {
		return
	}
	have, finals := h.cursors(p), h.finals(p)
	sh.waiting = slices.DeleteFunc(sh.waiting, func(w waiter) bool {
		is, _ := finals.Clamp(w.all)
		covered := have.Covers(is)
		if covered {
			w.sub.conn.send(item{kind: itemCovered, sub: w.sub})
		}
		return covered
	})
}

// ticket registers a put and returns its tag.
func (h *hub) ticket(t ticket) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastTag++
	h.tags[h.lastTag] = t
	return h.lastTag
}

// redeem takes a put's ticket, once.
func (h *hub) redeem(tag uint64) (ticket, bool) {
	if tag == 0 {
		return ticket{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t, ok := h.tags[tag]
	delete(h.tags, tag)
	return t, ok
}

// deliver is the region's watcher.
func (h *hub) deliver(events []wire.Event) {
	var touched [crdt.Partitions]bool
	for i := range events {
		e := &events[i]
		p := crdt.PartitionOf(e.Session)
		touched[p] = true
		own, ok := h.redeem(e.Tag)
		if ok && own.watched {
			h.watched.end(e.Tag, e.Refused)
		}
		told := h.tell(p, e, own)
		if ok && !told {
			own.conn.send(item{kind: itemOutcome, event: e, ticket: own})
		}
	}
	for jumped := wire.Touched(events); jumped != 0; jumped &= jumped - 1 {
		touched[bits.TrailingZeros64(jumped)] = true
	}
	for p, t := range touched {
		if t {
			h.wake(uint8(p))
		}
	}
}

// tell queues an event for every connection that has its session open, and reports whether the putter is one.
func (h *hub) tell(p uint8, e *wire.Event, own ticket) (told bool) {
	sh := &h.shards[p]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	op, deliveries := tracedOp(e), 0
	for _, s := range sh.subs[e.Session] {
		it := item{kind: itemEvent, sub: s, event: e}
		if e.Merged {
			s.conn.send(item{kind: itemMerged, sub: s})
			continue
		}
		if s.conn == own.conn {
			it.ticket, told = own, true
		}
		if told && s.conn == own.conn || len(e.Changes) > 0 {
			s.conn.send(it)
			if op != nil && h.traces.tracer != nil && deliveries < maxDeliveries {
				deliveries++
				s.conn.send(item{kind: itemTraced, sub: s, frame: h.traces.deliver(op, s, len(sh.subs[e.Session]))})
			}
		}
	}
	return told
}

// signal passes a sig on to the session's other connections on this node.
func (h *hub) signal(from *Conn, f *wire.Sig) {
	sh := &h.shards[crdt.PartitionOf(f.S)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, s := range sh.subs[f.S] {
		if s.conn != from {
			s.conn.send(item{kind: itemFrame, frame: f})
		}
	}
}
