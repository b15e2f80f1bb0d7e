package wan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/client"
)

const (
	resumeHeld   = 980 // messages of the session that the device has
	resumeUnread = 20
)

// mover is a device that goes from region to region: the SDK's engine, carried by hand so that hello is a moment of our choice.
type mover struct {
	w       *world
	session string
	token   string
	engine  *client.Engine
	ws      *websocket.Conn
	next    *websocket.Conn // to the region to
	to      string
}

func newMover(w *world, session, user string) (*mover, error) {
	m := &mover{w: w, session: session, token: w.token(user)}
	var err error
	m.engine, err = client.NewEngine(client.EngineConfig{Regions: w.urls(w.regions[0].name), Device: "mover", Dice: rand.Float64}, nil)
	if err == nil {
		err = m.engine.Open(session, time.Now())
	}
	return m, err
}

// reach makes a connection to a region, beside the one that there is.
func (m *mover) reach(ctx context.Context, r *region) (err error) {
	m.next, err = webSocket(ctx, r.nodes[0].dial, r.nodes[0].url())
	m.to = r.name
	return err
}

// hello leaves the region where the device is, and says hello in the one that was reached, with the token that is held.
func (m *mover) hello(ctx context.Context) error {
	if m.ws != nil {
		m.ws.CloseNow()
		m.engine.Lost(time.Now())
	}
	m.ws, m.next = m.next, nil
	m.engine.Prefer(m.to)
	m.engine.Begin(m.token, time.Now())
	return m.flush(ctx)
}

func (m *mover) flush(ctx context.Context) error {
	for b := m.engine.Take(time.Now()); b != nil; b = m.engine.Take(time.Now()) {
		if err := m.ws.Write(ctx, websocket.MessageText, b); err != nil {
			return err
		}
	}
	return nil
}

// until reads until the device shows a message.
func (m *mover) until(ctx context.Context, oid string) error {
	return m.read(ctx, func(st *client.State) bool { return st.Find(oid) != nil })
}

// read reads until the device is connected and shows what is looked for.
func (m *mover) read(ctx context.Context, so func(*client.State) bool) error {
	for {
		if st, ok := m.engine.State(m.session); ok && st.Live && so(&st) {
			return nil
		}
		_, b, err := m.ws.Read(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(m.engine.Receive(b, time.Now()), m.flush(ctx)); err != nil {
			return err
		}
	}
}

func (m *mover) close() {
	for _, ws := range []*websocket.Conn{m.ws, m.next} {
		if ws != nil {
			ws.CloseNow()
		}
	}
}

// resume measures what a device waits for after a move, from hello to the last message that it missed: where the region has all
// that the device has seen and more, and where it has not even that.
func (r *rig) resume(ctx context.Context, sc *Scenario) error {
	ctx, cancel := context.WithTimeout(ctx, sc.Length+patience)
	defer cancel()
	r.crowds++
	user := "mover"
	session := fmt.Sprintf("%s/%s-%d", user, sc.Name, r.crowds)
	m, err := newMover(r.world, session, user)
	if err != nil {
		return err
	}
	defer m.close()
	var others []*other
	for _, g := range r.world.regions[:2] {
		o, err := newOther(ctx, g.nodes[0], "other-"+g.name, r.world.token(user))
		if err != nil {
			return err
		}
		defer o.ws.CloseNow()
		others = append(others, o)
	}
	texts := texts(r.Payload, rand.New(rand.NewPCG(r.Seed, 3)))
	var last string
	for left := resumeHeld; left > 0; left -= 60 {
		if last, err = others[0].put(ctx, session, "first", texts[:min(left, 60)]); err != nil {
			return err
		}
	}
	if err := errors.Join(m.reach(ctx, r.world.regions[0]), m.hello(ctx), m.until(ctx, last)); err != nil {
		return err
	}
	for _, covered := range []bool{true, false} {
		took, err := r.moves(ctx, sc, m, others, texts, covered)
		if err != nil {
			return err
		}
		r.report.resumed(sc, covered, spreadOf(took))
	}
	return nil
}

// moves moves the device from one region to the other and back, again and again.
func (r *rig) moves(ctx context.Context, sc *Scenario, m *mover, others []*other, texts []string, covered bool) (took []sample, err error) {
	for i, begun := 0, time.Now(); i < r.Trials && (i < 10 || time.Since(begun) < sc.Length/2); i++ {
		at, to := i%2, (i+1)%2
		if err := m.reach(ctx, r.world.regions[to]); err != nil {
			return nil, err
		}
		last, err := r.unread(ctx, m, others[at], fmt.Sprintf("%d", at), texts, covered)
		if err != nil {
			return nil, err
		}
		said := time.Now()
		if err := errors.Join(m.hello(ctx), m.until(ctx, last)); err != nil {
			return nil, err
		}
		took = append(took, sample{time.Since(begun), time.Since(said)})
	}
	return took, nil
}

// unread puts what the device is to miss, where it is now, and returns the oid of the last. Covered: both regions have what the
// device has seen, and more. Not covered: the device has seen, a moment ago, what the other region cannot have yet.
func (r *rig) unread(ctx context.Context, m *mover, o *other, name string, texts []string, covered bool) (last string, err error) {
	if !covered {
		seen, err := o.put(ctx, m.session, name, texts[:1])
		if err := errors.Join(err, m.until(ctx, seen)); err != nil {
			return "", err
		}
	}
	if last, err = o.put(ctx, m.session, name, texts[:resumeUnread]); err != nil || !covered {
		return last, err
	}
	return last, r.world.await(ctx, patience, "both regions have it", func() error { return r.world.level(ctx) })
}

// resumed adds what moves have taken.
func (r *Report) resumed(sc *Scenario, covered bool, s spread) {
	if covered {
		r.atMost(sc, fmt.Sprintf("covered, p50 of %d moves", s.n), s.p50, Goal{Plus: 5 * time.Millisecond})
		r.atMost(sc, "covered p99", s.p99, Goal{Plus: 10 * time.Millisecond})
		return
	}
	r.atMost(sc, fmt.Sprintf("not covered, p50 of %d moves", s.n), s.p50, Goal{Times: 2, Plus: 10 * time.Millisecond})
	r.add(sc, "not covered p99", "%s", ms(s.p99))
}
