package bubble

import (
	"fmt"
	"net"

	"github.com/alicebob/miniredis/v2"
)

// redis is a region's Redis: a real server of its protocol, in memory.
type redis struct {
	place, addr string
	mini        *miniredis.Miniredis
	listener    net.Listener
	done        chan struct{}
}

func newRedis(s *site) *redis {
	r := &redis{place: s.name + "/redis", addr: fmt.Sprintf("127.%d.100.1:6379", s.number), mini: miniredis.NewMiniRedis(), done: make(chan struct{})}
	r.mini.ClockTTL(true)
	first, err := r.mini.Dial() // begins to serve
	if err != nil {
		s.w.t.Fatal(err)
	}
	first.Close()
	if r.listener, err = s.w.net.Listen(r.place, r.addr); err != nil {
		s.w.t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		for {
			c, err := r.listener.Accept()
			if err != nil {
				return
			}
			r.mini.Server().ServeConn(c)
		}
	}()
	return r
}

// wipe loses everything.
func (r *redis) wipe() { r.mini.FlushAll() }

func (r *redis) close() {
	r.listener.Close()
	<-r.done
	r.mini.Close()
}
