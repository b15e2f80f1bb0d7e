package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"
)

// maxOpBytes bounds one op, in bytes of JSON, before a region has told its own limit.
const maxOpBytes = 1 << 20

// Session is an open session. Its methods may be called from any goroutine. Those that put an op return as soon as
// the op is in the outbox: its Receipt tells how far it has come.
type Session struct {
	client *Client
	rec    *session // guarded by client.mu
}

// SendOptions is what a message may have besides its text. The zero value asks for no answer.
type SendOptions struct {
	Ask    bool            // ask the region's default model for an answer
	Models []string        // ask these for one answer each; an empty name is the default model
	Busy   string          // while another answer runs: "queue" (also when empty), "interrupt" or "reject"
	Parts  json.RawMessage // a list of {type, …}
	Role   string          // empty: "user"; others need a service token
}

// Send appends a message.
func (s *Session) Send(text string, o SendOptions) (*Receipt, error) {
	m := op{K: KindMessage, Parts: o.Parts, Role: o.Role}
	if text != "" || o.Parts == nil {
		m.Text = &text
	}
	if o.Ask || len(o.Models) > 0 {
		m.Run, _ = json.Marshal(askJSON{Models: o.Models, Busy: o.Busy})
	}
	return s.put(m)
}

// AskAgain asks for another answer to a message; model and busy as in SendOptions.
func (s *Session) AskAgain(message, model, busy string) (*Receipt, error) {
	return s.put(op{K: KindAnswer, Of: message, Model: model, Busy: busy})
}

// Stop ends an answer, or all that run if run is empty. What came stays.
func (s *Session) Stop(run string) (*Receipt, error) {
	o := op{K: "stop"}
	if run != "" {
		o.Run, _ = json.Marshal(run)
	}
	return s.put(o)
}

// Set gives a key of the session's map a value, anything that JSON can say; nil deletes it.
func (s *Session) Set(key string, v any) (*Receipt, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("set %q: %w", key, err)
	}
	return s.put(op{K: "set", Key: key, V: b})
}

// Edit gives a message another text.
func (s *Session) Edit(message, text string) (*Receipt, error) {
	return s.put(op{K: "edit", Of: message, Text: &text})
}

// Delete shows a message as deleted.
func (s *Session) Delete(message string) (*Receipt, error) {
	return s.put(op{K: "del", Of: message})
}

// React sets or takes back a reaction to a message.
func (s *Session) React(message, reaction string, on bool) (*Receipt, error) {
	v, _ := json.Marshal(reaction)
	return s.put(op{K: "react", Of: message, V: v, On: &on})
}

// Read tells how far the user has read.
func (s *Session) Read(seq uint64) (*Receipt, error) {
	return s.put(op{K: "read", Seq: &seq})
}

// Forget deletes the session, in every region: all that its region has seen of it by then. What was put elsewhere at the same time
// stays, and so does what is put later.
func (s *Session) Forget() (*Receipt, error) {
	return s.put(op{K: "forget"})
}

// put admits an op to the outbox, keeps it there, and lets it go.
func (s *Session) put(o op) (*Receipt, error) {
	c, now := s.client, time.Now()
	o.OID = newOID(now)
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.K, err)
	}
	after, err := s.admit(len(raw))
	if err != nil {
		return nil, err
	}
	it := Item{Session: s.rec.id, OID: o.OID, Born: now, Op: raw, Cur: after.cur, Anew: after.anew}
	if err := c.cfg.Outbox.Add(it); err != nil {
		c.mu.Lock()
		c.core.release(s.rec)
		c.mu.Unlock()
		return nil, fmt.Errorf("keep an op in the outbox: %w", err)
	}
	r := &Receipt{session: s, op: &pending{stand: after, op: o, raw: raw, born: now}}
	c.mu.Lock()
	c.core.enqueue(s.rec, r.op, now)
	c.mu.Unlock()
	nudge(c.kick)
	return r, nil
}

// admit makes room for an op, and returns what it is put after.
func (s *Session) admit(size int) (after stand, err error) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	limit := maxOpBytes
	if told := s.client.core.link.max.Frame; told > 0 {
		limit = min(limit, told-putOverhead)
	}
	switch {
	case s.client.handles[s.rec.id] != s:
		return after, ErrClosed
	case size > limit:
		return after, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, limit)
	}
	if err := s.client.core.admit(s.rec); err != nil {
		return after, err
	}
	return s.rec.follows(), nil
}

// Older asks for up to limit entries before the first one held; they appear in the State. Without a connection it
// does nothing. Zero: 50.
func (s *Session) Older(limit int) {
	s.client.mu.Lock()
	s.client.core.page(s.rec, cmp.Or(limit, 50))
	s.client.mu.Unlock()
	nudge(s.client.kick)
}

// State returns the session as it is known now.
func (s *Session) State() State {
	st, _ := s.look()
	return st
}

// look returns the state and what is closed when it changes.
func (s *Session) look() (State, <-chan struct{}) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.rec.state(), s.rec.changed
}

// Watch yields the state now and after changes, until ctx ends or the loop does. A slow loop skips states, never the
// last one.
func (s *Session) Watch(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		for ctx.Err() == nil {
			st, changed := s.look()
			if !yield(st) {
				return
			}
			select {
			case <-ctx.Done():
			case <-changed:
			}
		}
	}
}

// Close stops following the session and drops what is held of it. Ops in its outbox are put all the same.
func (s *Session) Close() {
	c := s.client
	c.mu.Lock()
	if c.handles[s.rec.id] == s {
		delete(c.handles, s.rec.id)
		c.core.close(s.rec)
	}
	c.mu.Unlock()
	nudge(c.kick)
}

// Receipt follows an own op.
type Receipt struct {
	session *Session
	op      *pending
}

// OID is the op's identity; of a message also its entry's.
func (r *Receipt) OID() string { return r.op.op.OID }

// Stage tells how far the op is; if it is Refused, why is a *Refusal or ErrExpired.
func (r *Receipt) Stage() (stage Stage, why error) {
	stage, _, why = r.look()
	return stage, why
}

func (r *Receipt) look() (Stage, <-chan struct{}, error) {
	r.session.client.mu.Lock()
	defer r.session.client.mu.Unlock()
	return r.op.stage, r.session.rec.changed, r.op.err
}

// Wait waits until the op is as far as stage (Sent, Stored or Safe), or refused, or ctx ends.
func (r *Receipt) Wait(ctx context.Context, stage Stage) error {
	for {
		now, changed, why := r.look()
		if why != nil {
			return why
		}
		if now >= stage {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
