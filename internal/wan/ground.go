package wan

import (
	"context"
	"net"
)

// dialFunc reaches an address, host and port.
type dialFunc func(ctx context.Context, addr string) (net.Conn, error)

// ground is what regions stand on, and the ways between them.
type ground interface {
	// Start begins a node's process.
	Start(n *node) (life, error)
	// Dialer reaches addresses from within a region, as its clients and operators do.
	Dialer(region string) dialFunc
	// Ways are those between the regions.
	Ways() ways
	// Close ends all that was started, and leaves nothing behind.
	Close() error
}

// ways are steered while they are in use.
type ways interface {
	Shape(p Pair, s Shape)
	Counts() map[Pair]Count
}

// life is a node's process.
type life interface {
	// Kill ends it at once, Stop in order; both wait for that.
	Kill()
	Stop() error
	// Ended is closed when it has ended, by itself or not.
	Ended() <-chan struct{}
	// Faults is what it said that it must never say; the empty string is nothing.
	Faults() string
}

// redisGround is one that can have a real Redis in each region.
type redisGround interface {
	// serveRedis starts a redis-server that keeps nothing, with further flags.
	serveRedis(region, port string, flags ...string) error
}
