package wan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/roamsync/roam/client"
)

// crowd are clients in all regions who talk, as many in a session as there are regions, one in each. It is an open
// loop: every message has its time in advance, and what it takes counts from then.
type crowd struct {
	w       *world
	talks   []*talk
	rate    float64 // messages a second, of all together
	asks    float64 // share that asks for an answer
	texts   []string
	dice    *rand.Rand
	luck    *rand.Rand // of who acts
	start   time.Time
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	late   int     // sent later than lateAfter: the rig's own fault
	refuse []error // puts that the SDK refused
	ended  []error // devices that were sent away
}

// lateAfter is from when on a message was sent late.
const lateAfter = 10 * time.Millisecond

// crowdPlan says how a crowd is made.
type crowdPlan struct {
	name     string
	sessions int
	rate     float64
	asks     float64
	payload  int // bytes of a message's text
	watched  bool
	seed     uint64
}

func newCrowd(w *world, p crowdPlan) (*crowd, error) {
	c := &crowd{w: w, rate: p.rate, asks: p.asks, dice: rand.New(rand.NewPCG(p.seed, 2)), luck: rand.New(rand.NewPCG(p.seed, 3)), start: time.Now()}
	c.texts = texts(p.payload, c.dice)
	for i := range p.sessions {
		user := fmt.Sprintf("u%d", i)
		t := newTalk(user+"/"+p.name, user, len(w.regions), c.start)
		token := w.token(user)
		for j, r := range w.regions {
			d, err := newDevice(t, j, r.name, w.urls(r.name), w.ground.Dialer, token, p.watched)
			if err != nil {
				return nil, err
			}
			t.devices = append(t.devices, d)
		}
		c.talks = append(c.talks, t)
	}
	return c, nil
}

// texts are some messages of words, which compress as people's do.
func texts(bytes int, dice *rand.Rand) (all []string) {
	for range 1024 {
		b := make([]byte, 0, bytes+16)
		for len(b) < bytes {
			b = append(b, vocabulary[int(dice.ExpFloat64()*float64(len(vocabulary))/6)%len(vocabulary)]...)
			b = append(b, ' ')
		}
		all = append(all, string(b[:bytes]))
	}
	return all
}

var vocabulary = words()

// words are 2,000 made of syllables, the short ones first, as in a language.
func words() (all []string) {
	dice := rand.New(rand.NewPCG(1, 1))
	for i := range 2000 {
		word := ""
		for range 1 + i/400 + dice.IntN(2) {
			word += string("bdfgklmnprstvwz"[dice.IntN(15)]) + string("aeiou"[dice.IntN(5)])
		}
		all = append(all, word)
	}
	return all
}

// connect has all devices connect, and waits until each follows its session in its own region.
func (c *crowd) connect(ctx context.Context) error {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	for _, d := range c.devices() {
		c.running.Go(func() {
			if err := d.sdk.Run(life); err != nil {
				c.mu.Lock()
				c.ended = append(c.ended, fmt.Errorf("%s: %w", d, err))
				c.mu.Unlock()
			}
		})
	}
	return c.w.await(ctx, patience, "all clients are connected", c.away)
}

// away says who is not at home.
func (c *crowd) away() error {
	n := 0
	for _, d := range c.devices() {
		if st := d.s.State(); !st.Live || st.Region != d.home {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d devices are not", n)
	}
	return nil
}

// goHome moves devices that have left a region back to it.
func (c *crowd) goHome(region string) {
	for _, d := range c.devices() {
		if d.home == region && d.sdk.Status().Region != region {
			_ = d.sdk.Move(region) // regions are known from the start
		}
	}
}

// travel takes a share of those who are in one region's network to another's.
func (c *crowd) travel(from, to string, share float64, hard bool) {
	for _, d := range c.devices() {
		if d.in() == from && c.luck.Float64() < share {
			d.travel(to, hard)
		}
	}
}

func (c *crowd) devices() (all []*device) {
	for _, t := range c.talks {
		all = append(all, t.devices...)
	}
	return all
}

// load sends messages for some time.
func (c *crowd) load(ctx context.Context, length time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Since(c.start)
	for n, end := 0, due+length; due < end; n++ {
		if wait := due - time.Since(c.start); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		} else if -wait > lateAfter {
			c.mu.Lock()
			c.late++
			c.mu.Unlock()
		}
		c.say(c.dice.IntN(len(c.talks)), c.dice.IntN(len(c.w.regions)), due, n)
		due += time.Duration(c.dice.ExpFloat64() / c.rate * float64(time.Second))
	}
}

func (c *crowd) say(talk, device int, due time.Duration, n int) {
	t := c.talks[talk]
	asks := c.dice.Float64() < c.asks
	after := t.devices[device].highest()
	r, err := t.devices[device].s.Send(c.texts[n%len(c.texts)], client.SendOptions{Ask: asks})
	if err != nil {
		c.mu.Lock()
		c.refuse = append(c.refuse, err)
		c.mu.Unlock()
		return
	}
	t.sending(device, r.OID(), due, asks, after)
}

// sums counts what was put, acknowledged, and shown to all, and questions without a whole answer.
func (c *crowd) sums() (sent, acked, reached, waiting int) {
	for _, t := range c.talks {
		t.mu.Lock()
		for _, n := range t.sent {
			sent += n
		}
		acked, reached, waiting = acked+t.acked, reached+t.reached, waiting+t.waiting
		t.mu.Unlock()
	}
	return sent, acked, reached, waiting
}

// settle waits until everything that was put is acknowledged and shown to everyone, and all nodes have the same.
func (c *crowd) settle(ctx context.Context) error {
	err := c.w.await(ctx, patience, "all that was put is acknowledged and shown in all regions", func() error {
		if err := c.w.gone(); err != nil {
			return err
		}
		if sent, acked, reached, waiting := c.sums(); acked < sent || reached < sent || waiting > 0 {
			return fmt.Errorf("of %d puts %d are acknowledged, %d are shown to all, and %d have no whole answer", sent, acked, reached, waiting)
		}
		return nil
	})
	return errors.Join(err, c.w.await(ctx, patience, "all nodes have the same", func() error { return c.w.level(ctx) }))
}

// close ends all devices.
func (c *crowd) close() {
	if c.cancel != nil {
		c.cancel()
	}
	c.running.Wait()
}
