package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/roamsync/roam/client"
)

// room is one open session with what this process has put in it.
type room struct {
	client  *client.Client
	session *client.Session
	outbox  *outbox // nil: in memory
	control *control
	trouble *trouble

	// mu is held while something is put, so that no snapshot has an own message that is not known as own.
	mu     sync.Mutex
	fresh  []string          // own messages that no snapshot has told of yet; guarded by mu
	open   []*client.Receipt // put and neither safe nor refused, guarded by mu
	want   map[string]int    // question -> answers that were asked for, guarded by mu
	bad    []string          // why own ops will never be stored, at most maxNotes; guarded by mu
	asked  string            // the message whose way is timed, if any; guarded by mu
	since  time.Time         // when it was put, guarded by mu
	trip   time.Duration     // of the last one, guarded by mu
	moving time.Time         // a move was asked for, and no snapshot has told of it; guarded by mu
	told   int               // of bad, in snapshots; guarded by mu
}

// snapshot is what is known at a moment.
type snapshot struct {
	client.State
	status  client.Status
	regions []string
	at      time.Time
	fresh   []string      // own messages, put since the last snapshot
	trip    time.Duration // from the last message's put to its being stored; 0: none was
	moving  time.Time     // a move was asked for, since the last snapshot
	trouble string        // why the last connection ended
	refused []string      // why own ops will never be stored, since the last snapshot
}

func newRoom(o *Options) (r *room, err error) {
	r = &room{control: newControl(), trouble: newTrouble(), want: map[string]int{}}
	cfg := client.Config{
		Token:  func(context.Context) (string, error) { return o.Token, nil },
		Device: o.Device, Agent: "roam-chat", Logger: slog.New(r.trouble),
	}
	for _, u := range o.URL {
		cfg.Regions = append(cfg.Regions, client.Region{URL: u})
	}
	if !o.NoOutbox {
		if r.outbox, err = openOutbox(o); err != nil {
			return nil, err
		}
		cfg.Outbox = r.outbox
	}
	if r.client, err = client.New(cfg); err == nil {
		r.session, err = r.client.Session(o.Session)
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *room) close() error {
	if r.outbox == nil {
		return nil
	}
	return r.outbox.Close()
}

// look takes a snapshot. One goroutine does.
func (r *room) look() snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := snapshot{State: r.session.State(), status: r.client.Status(), regions: r.names(), at: time.Now(), fresh: r.fresh, trouble: r.trouble.now()}
	r.sweep()
	s.refused = slices.Clone(r.bad[r.told:])
	s.trip, s.moving = r.trip, r.moving
	r.moving = time.Time{}
	r.fresh, r.told = nil, len(r.bad)
	return s
}

// sweep forgets own ops that are safe, and notes those that were refused. The caller holds mu.
func (r *room) sweep() {
	r.open = slices.DeleteFunc(r.open, func(p *client.Receipt) bool {
		stage, why := p.Stage()
		if p.OID() == r.asked && stage >= client.Stored {
			r.asked, r.trip = "", time.Since(r.since).Round(time.Millisecond)
		}
		if stage == client.Refused {
			delete(r.want, p.OID())
			if len(r.bad) < maxNotes {
				r.bad = append(r.bad, "not stored: "+clean(why.Error()))
			}
		}
		return stage >= client.Safe
	})
}

// refusal is why an own op will never be stored, if one will not.
func (r *room) refusal() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep()
	if len(r.bad) == 0 {
		return nil
	}
	return errors.New(r.bad[0])
}

func (r *room) names() (all []string) {
	for _, g := range r.client.Regions() {
		all = append(all, g.Name)
	}
	return all
}

// unstored counts own ops that no region has on disk yet.
func (r *room) unstored() int {
	n := 0
	for _, o := range r.session.State().Outbox {
		if o.Stage < client.Stored {
			n++
		}
	}
	return n
}

// answered reports whether all that was asked for has come to its end, and how many questions have a failed answer last.
func (r *room) answered(st client.State) (all bool, failed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep()
	for of, want := range r.want {
		answers := st.Answers(of)
		if forgotten(st, of) {
			continue
		}
		if len(answers) < want || slices.ContainsFunc(answers, func(e *client.Entry) bool { return !e.Closed() }) {
			return false, 0
		}
		if answers[len(answers)-1].Status == "failed" {
			failed++
		}
	}
	return true, failed
}

// forgotten reports whether a message that was stored is gone.
func forgotten(st client.State, oid string) bool {
	waits := slices.ContainsFunc(st.Outbox, func(o client.OwnOp) bool { return o.OID == oid && o.Stage < client.Stored })
	return st.Live && st.Why == "floor" && !waits && st.Find(oid) == nil
}

// do does what a command says and returns what to tell about it, if anything.
func (r *room) do(ctx context.Context, c command) (string, error) {
	switch c.name {
	case say:
		return "", r.say(c.arg)
	case "move":
		return "", r.move(c.arg)
	case "cut":
		r.client.Cut()
		return "the connection was cut", nil
	case "kill", "start":
		if err := r.control.turn(ctx, c.name, c.arg, r.client.Regions()); err != nil {
			return "", err
		}
		return map[string]string{"kill": "killed ", "start": "started "}[c.name] + cleanLine(c.arg), nil
	case "model", "system", "title":
		return r.setting(c.name, c.arg)
	case "stop":
		return "", r.put(r.session.Stop(""))
	case "again":
		return "", r.again()
	case "forget":
		return "the session is deleted", r.put(r.session.Forget())
	case "help":
		yes, _ := r.control.available(ctx, r.client.Regions())
		return help(yes), nil
	}
	return "", fmt.Errorf("/%s is not for here", c.name)
}

func (r *room) say(text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.session.Send(text, client.SendOptions{Ask: true})
	if err != nil {
		return err
	}
	r.fresh, r.open = append(r.fresh, p.OID()), append(r.open, p)
	r.want[p.OID()] = 1
	r.asked, r.since = p.OID(), time.Now()
	return nil
}

// put notes an op that was put.
func (r *room) put(p *client.Receipt, err error) error {
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(r.open, p)
	return nil
}

func (r *room) move(region string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.client.Move(region); err != nil {
		return fmt.Errorf("%w; there are %v", err, r.names())
	}
	if r.session.State().Region != region {
		r.moving = time.Now()
		nudge(r.trouble.changed) // to be shown
	}
	return nil
}

// again asks the last answered question again.
func (r *room) again() error {
	st := r.session.State()
	for _, e := range slices.Backward(st.Log) {
		if e.Kind == client.KindAnswer {
			if err := r.put(r.session.AskAgain(e.Of, "", "")); err != nil {
				return err
			}
			r.mu.Lock()
			r.want[e.Of] = max(r.want[e.Of], len(st.Answers(e.Of))) + 1
			r.mu.Unlock()
			return nil
		}
	}
	return errors.New("/again: there is no answer yet")
}

// setting shows a key of the session's map, or changes it.
func (r *room) setting(key, value string) (string, error) {
	if value == "" {
		var now string
		if err := json.Unmarshal(r.session.State().Map[key].JSON, &now); err != nil || now == "" {
			return "no " + key + " is set", nil
		}
		return key + ": " + clean(now), nil
	}
	if value == "-" {
		return key + " cleared", r.put(r.session.Set(key, nil))
	}
	return key + ": " + clean(value), r.put(r.session.Set(key, value))
}
