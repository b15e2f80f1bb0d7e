package sim

import (
	"errors"
	"fmt"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// propose takes a command for its turn.
func (n *node) propose(p *proposal) error {
	if len(n.queue) >= queueLength {
		return fmt.Errorf("%d puts wait already: %w", queueLength, wire.ErrUnavailable)
	}
	n.queue = append(n.queue, p)
	n.after(0, n.fill)
	return nil
}

// do proposes what only a leader may.
func (n *node) do(c *machine.Command, done func(machine.Result)) {
	if !n.leading {
		n.after(0, func() { done(machine.Result{Err: errNotLeader}) })
		return
	}
	if err := n.propose(&proposal{cmd: c, since: n.w.now, done: done}); err != nil {
		n.after(0, func() { done(machine.Result{Err: err}) })
	}
}

// fill takes what waits for the next entry, one entry at a time.
func (n *node) fill() {
	if n.busy || len(n.queue) == 0 {
		return
	}
	size, take := 0, 0
	for take < len(n.queue) && (take == 0 || size < batchOps) {
		ops, _ := n.queue[take].cmd.Size()
		size += ops
		take++
	}
	batch := n.queue[:take:take]
	n.queue = n.queue[take:]
	n.busy = true
	n.try(batch)
}

// try takes a batch through Raft, here or at the leader, until it is applied or its time is over.
func (n *node) try(batch []*proposal) {
	n.route(batch, func(res []machine.Result, err error) {
		switch {
		case err == nil && len(res) == len(batch):
			for i, p := range batch {
				p.end(res[i])
			}
		case n.w.now-batch[0].since > commitDeadline:
			for _, p := range batch {
				p.end(machine.Result{Err: fmt.Errorf("%w: %w", wire.ErrUnavailable, errLost)})
			}
		default:
			n.after(retryPause, func() { n.try(batch) })
			return
		}
		n.busy = false
		n.fill()
	})
}

func (n *node) route(batch []*proposal, done func([]machine.Result, error)) {
	if !n.leading {
		n.forward(batch, done)
		return
	}
	n.clock.Observe(n.m.Stamp())
	cmds := make([][]byte, len(batch))
	for i, p := range batch {
		p.cmd.Stamp(&n.clock, n.now())
		cmds[i] = p.cmd.Encode()
	}
	n.g.append(n, machine.EncodeEntryOf(machine.ExpireLevel, cmds), done)
}

// forward has the leader commit a batch's puts; everything else is the business of a leader.
func (n *node) forward(batch []*proposal, done func([]machine.Result, error)) {
	results, puts := make([]machine.Result, len(batch)), 0
	for i, p := range batch {
		if p.cmd.Kind == machine.KindPut {
			puts++
		} else {
			results[i].Err = errNotLeader
		}
	}
	if puts == 0 {
		done(results, nil)
		return
	}
	lead := n.g.lead()
	if lead == nil || lead == n || n.isolated {
		n.after(retryPause, func() { done(nil, errNotLeader) })
		return
	}
	ended := false
	end := func(err error) {
		if !ended {
			ended = true
			done(results, err)
		}
	}
	var encoded [][]byte
	for _, p := range batch {
		if p.cmd.Kind == machine.KindPut {
			encoded = append(encoded, p.cmd.Encode())
		}
	}
	lead.after(between(n.g.rng, hopMin, hopMax), func() {
		lead.takeIn(encoded, func(err error) {
			n.after(between(n.g.rng, hopMin, hopMax), func() { end(err) })
		})
	})
	n.after(between(n.g.rng, lease, 2*electionMax), func() { // a leader that hangs is not waited for once there is another
		if n.g.lead() != lead {
			end(errLost)
		}
	})
	n.after(commitDeadline, func() { end(errLost) })
}

// takeIn commits what entered by another node.
func (n *node) takeIn(cmds [][]byte, done func(error)) {
	if !n.leading {
		done(errNotLeader)
		return
	}
	left := len(cmds)
	var failed error
	for _, b := range cmds {
		c, err := machine.DecodeCommand(b)
		if err == nil {
			err = n.propose(&proposal{cmd: c, since: n.w.now, done: func(r machine.Result) {
				if failed = errors.Join(failed, r.Err); left == 1 {
					done(failed)
				}
				left--
			}})
		}
		if err != nil {
			done(err)
			return
		}
	}
}
