package replication

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
)

// SetKeys goes on with other keys of gossip: the first is used, all are accepted. Those that are new are known before one is used, and
// none goes before another is: no packet comes that cannot be read, as long as the others know the first.
func (p *Pool) SetKeys(keys [][]byte) error {
	keys = once(keys)
	for _, k := range keys {
		if err := p.ring.AddKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	if err := p.ring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	if len(p.ring.GetKeys()) == len(keys) {
		return nil
	}
	return p.forget(keys)
}

// once leaves out keys that come again.
func once(keys [][]byte) (all [][]byte) {
	for _, k := range keys {
		if !slices.ContainsFunc(all, func(had []byte) bool { return bytes.Equal(had, k) }) {
			all = append(all, k)
		}
	}
	return all
}

// forget removes all keys but those. memberlist (0.7) moves keys within a list that it may be reading at that moment, unless
// the last one goes: so those that go are brought to the end first.
func (p *Pool) forget(keep [][]byte) error {
	for _, k := range slices.Backward(keep) {
		if err := p.ring.UseKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	for _, k := range slices.Backward(p.ring.GetKeys()[len(keep):]) {
		if err := p.ring.RemoveKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	return nil
}

// RegionAt is the region of the node that is at an address, or connects from there; "" if that is none that was ever heard of, or if nodes of several regions
// are at its IP.
func (p *Pool) RegionAt(addr string) (region string) {
	for _, name := range p.NamesAt(addr) {
		region, _, _ = strings.Cut(name, "/")
		return region
	}
	for _, m := range p.known(func(m peer) bool { return sameHost(m.Gossip, addr) || sameHost(m.Addr, addr) }) {
		if region != "" && region != m.Region {
			return ""
		}
		region = m.Region
	}
	return region
}

func sameHost(a, b string) bool {
	x, _, errX := net.SplitHostPort(a)
	y, _, errY := net.SplitHostPort(b)
	return errX == nil && errY == nil && x == y
}

// NamesAt returns the nodes, region/node, that have said that other nodes reach them at an address. The dead are among them.
func (p *Pool) NamesAt(addr string) (names []string) {
	for _, m := range p.known(func(m peer) bool { return m.Addr == addr }) {
		names = append(names, m.Region+"/"+m.Node)
	}
	return names
}
