package dispatch

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// Embedded is a Redis inside this process, for regions of one node: nothing that Redis holds need be durable. Its
// memory is this process's.
type Embedded struct {
	m    *miniredis.Miniredis
	addr string
}

// StartEmbedded starts one on a loopback address; "" takes a free port.
func StartEmbedded(addr string) (*Embedded, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	if err := m.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("embedded redis at %s: %w", addr, err)
	}
	return &Embedded{m: m, addr: m.Addr()}, nil
}

// Addr returns host and port.
func (e *Embedded) Addr() string { return e.addr }

// URL returns the address as Config.Redis takes it.
func (e *Embedded) URL() string { return "redis://" + e.addr }

// Close ends it, with all that it held. It may be called more than once.
func (e *Embedded) Close() { e.m.Close() }
