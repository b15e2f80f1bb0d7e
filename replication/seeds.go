package replication

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// inALine is what memberlist says of several addresses of a seed, which it shows as a list of many lines.
func inALine(err error) string {
	list, ok := err.(interface{ WrappedErrors() []error })
	if !ok {
		return err.Error()
	}
	var all []string
	for _, e := range list.WrappedErrors() {
		all = append(all, e.Error())
	}
	return strings.Join(all, "; ")
}

// join asks each seed that is no live member, one by one, so that one that is down does not hide another.
func (p *Pool) join(ctx context.Context, first bool) {
	live := map[string]bool{p.addr: true}
	p.mu.Lock()
	for _, m := range p.peers {
		live[m.Gossip] = live[m.Gossip] || m.Alive
	}
	p.mu.Unlock()
	for _, seed := range p.cfg.Join {
		if ctx.Err() != nil { // each that is cut off takes seconds
			return
		}
		if live[resolve(seed)] {
			p.answered(seed) // this node's own address is in the list too, when all are given the same
			continue
		}
		if _, err := p.list.Join([]string{seed}); err != nil {
			if first {
				p.cfg.Logger.Warn("a seed of --join does not answer; it is asked again for ever", "seed", seed, "err", inALine(err),
					"hint", "if it is up, it may have another --secret-file")
			}
			continue
		}
		p.answered(seed)
	}
}

// announceFor is how long a node that starts waits for a node of its region that does not take what it says.
const announceFor = 500 * time.Millisecond

// announce has the other nodes of the region know of this process before it takes clients. Those that knew the one before it have heard that it is gone:
// this one has contradicted them when it joined, and gossip would take a while to tell.
func (p *Pool) announce(telling *sync.WaitGroup) {
	told := make(chan struct{})
	telling.Go(func() {
		defer close(told)
		var each sync.WaitGroup
		for _, m := range p.mates() {
			each.Go(func() {
				if _, err := p.list.Join([]string{m.Gossip}); err != nil {
					p.cfg.Logger.Debug("announce", "to", m.Node, "err", err)
				}
			})
		}
		each.Wait()
	})
	select {
	case <-told:
	case <-time.After(announceFor):
	}
}

func (p *Pool) answered(seed string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.owed, seed)
}

func resolve(addr string) string {
	if a, err := net.ResolveTCPAddr("tcp", addr); err == nil {
		return a.String()
	}
	return addr
}

// advertise turns a name into the IP that memberlist wants.
func advertise(host string) (string, error) {
	if host == "" {
		return "", nil
	}
	ip, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", fmt.Errorf("--advertise-host: %w", err)
	}
	return ip.IP.String(), nil
}
