package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamsync/roam/wire"
)

const (
	// queueItems bounds what waits for a connection's writer. A client that does not keep up is closed with 4002: it
	// comes back with its cur and misses nothing.
	queueItems = 4096
	// maxUnsafe bounds the ops of a connection whose safe is still to be told; beyond, the client learns it when it
	// puts them again.
	maxUnsafe = 10_000
)

type itemKind uint8

const (
	itemFrame    itemKind = iota // send frame
	itemEvent                    // of sub's session; with a ticket: the outcome of this connection's put
	itemOutcome                  // of a put on a session that is not open here
	itemOpen                     // answer an open of sub
	itemCovered                  // sub's client has nothing any more that the region lacks
	itemLate                     // sub has waited long enough for that
	itemNowhere                  // sub's region has been behind for long
	itemMerged                   // another region's copy of sub's session was merged into it
	itemClose                    // answer a close of sub
	itemPage                     // answer a page, frame
	itemTraced                   // frame is the span of delivering the event before it
	itemRecheck                  // peers have acknowledged more, or a wait for them is over
	itemMove                     // frame, to a client that was welcomed
	itemHandOver                 // hand the connection over, once nothing of it is under way
	itemEnd                      // close the connection
)

// item is one thing for a connection's writer to do, in order.
type item struct {
	kind   itemKind
	frame  any
	sub    *sub
	event  *wire.Event
	ticket ticket
	id     *int64
	status wire.Status
}

// Transport carries one connection's messages to its client.
type Transport interface {
	// Write sends a message: frames, one a line. It may keep nothing of it.
	Write(message []byte) error
	// Close says goodbye, after the last Write.
	Close(status wire.Status, reason string)
}

// Conn is one client's connection. Its owner calls Receive with its frames, and Work when it is woken; each is for one
// goroutine at a time. Work owns what is sent, and the state of it.
type Conn struct {
	g    *Gateway
	t    Transport
	wake func() // Work has something to do; called under locks
	name string
	seq  uint64 // in the order they came
	far  bool   // its socket is at a node without data

	// guarded by mu
	mu      sync.Mutex
	queue   []item
	full    bool
	ended   bool
	checked bool // a recheck is queued
	puts    int  // that were not answered yet
	waits   bool // for these, to be handed over

	user string // set by hello, before anything is queued that reads it

	// owned by Receive
	greeted  bool
	identity Identity
	device   string
	token    string // of the client, if it may be handed over
	subs     map[string]*sub
	rate     bucket
	expiry   func() (stop bool)

	// owned by Work
	failed   error // why nothing is written any more
	welcomed bool
	out      outbox
	unsafe   []unsafePut
	held     []*heldOk
	handing  *handing // nil: it stays

	awaits atomic.Pointer[[]await] // stored by Work
	due    atomic.Bool             // something that was awaited is safe, and Work has not looked
}

// send queues an item; it never waits.
func (c *Conn) send(it item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended || c.full:
		return
	case len(c.queue) >= queueItems && it.kind != itemEnd:
		c.full = true
		c.queue = append(c.queue[:0:0], item{
			kind: itemEnd, status: wire.StatusTooSlow,
			frame: wire.Errorf(wire.Unavailable, "too slow: %d frames wait; come back with your cur", queueItems),
		})
		c.g.metrics.dropped.WithLabelValues("slow_client").Inc()
	default:
		c.queue = append(c.queue, it)
	}
	c.wake()
}

// end closes the connection for a reason, after all that is queued; without one if its client is gone.
func (c *Conn) end(why *wire.Error, status wire.Status) {
	it := item{kind: itemEnd, status: status}
	if why != nil {
		it.frame = why
	}
	c.send(it)
}

// beat asks the client for a sign of life.
func (c *Conn) beat() { c.send(item{kind: itemFrame, frame: &wire.Ping{T: "ping"}}) }

func (c *Conn) fail(id *int64, s string, err error) {
	e := wire.ErrorOf(err)
	c.g.metrics.refused.WithLabelValues(string(e.Code)).Inc()
	c.send(item{kind: itemFrame, frame: errFrame(id, s, e)})
}

func errFrame(id *int64, s string, e *wire.Error) *wire.ErrFrame {
	return &wire.ErrFrame{T: "err", ID: id, S: s, Code: e.Code, Msg: e.Msg, Retry: e.Retry}
}

// recheck has the writer look what has become safe; one at a time is queued.
func (c *Conn) recheck() {
	c.mu.Lock()
	again := c.checked
	c.checked = true
	c.mu.Unlock()
	if !again {
		c.send(item{kind: itemRecheck})
	}
}

// Work does what is queued, in order, and writes what comes of it. After an error the connection has ended, and its client was
// told why if there was something to tell.
func (c *Conn) Work() error {
	if c.failed == nil {
		c.failed = c.work(c.take())
	}
	if c.failed == nil && c.still() {
		c.failed = c.hand()
	}
	if c.failed != nil {
		c.finish()
	}
	return c.failed
}

// End releases all that the connection holds, when neither Receive nor Work runs nor will. Its client is gone, or is let go;
// what comes for it later is dropped.
func (c *Conn) End() {
	c.finish()
	if c.failed == nil {
		c.failed = errEnded
	}
	for _, s := range c.subs {
		s.close()
	}
	if c.expiry != nil {
		c.expiry()
	}
	c.g.drop(c)
}

// take returns what is queued, or nil if nothing is.
func (c *Conn) take() []item {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queue
	c.queue = nil
	return q
}

// bucket is a token bucket: MaxRate frames a second, twice that at once.
type bucket struct {
	tokens float64
	last   time.Time
}

func newBucket(now time.Time) bucket { return bucket{tokens: 2 * wire.MaxRate, last: now} }

func (b *bucket) take(now time.Time) bool { return b.takeOf(now, wire.MaxRate, 2*wire.MaxRate) }

// takeOf takes one of rate a second, of burst at once. A clock that goes back takes nothing away.
func (b *bucket) takeOf(now time.Time, rate, burst float64) bool {
	b.tokens = min(burst, b.tokens+max(0, now.Sub(b.last).Seconds())*rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
