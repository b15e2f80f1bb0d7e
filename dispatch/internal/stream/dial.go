package stream

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// Dial makes connections to Redis.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// noTimeout stands for none: go-redis has no other word for it in all its settings.
const noTimeout = 10_000 * time.Hour

// byHand has a client dial with dial, and leaves nothing to the machine's clock: the client sets no deadlines, and
// keeps connections for ever. After some failed dials go-redis would dial by itself in the background, once a second;
// so a dial that fails becomes a connection on which everything fails.
func byHand(o *redis.Options, dial Dial) {
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return refuse(err), nil
		}
		return c, nil
	}
	o.DialTimeout, o.PoolTimeout, o.ConnMaxIdleTime = noTimeout, noTimeout, -1
	o.ReadTimeout, o.WriteTimeout = -2, -2 // which means that no deadline is set
}

// refused is a connection that could not be made.
type refused struct {
	net.Conn
	err error
}

func refuse(err error) net.Conn {
	near, far := net.Pipe()
	near.Close()
	far.Close()
	return &refused{Conn: near, err: err}
}

func (r *refused) Read([]byte) (int, error)  { return 0, r.err }
func (r *refused) Write([]byte) (int, error) { return 0, r.err }
