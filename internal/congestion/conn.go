package congestion

import (
	"net"
	"sync/atomic"
	"syscall"
)

// conn is a connection that is looked after until it is closed.
type conn struct {
	*net.TCPConn
	c    *Control
	raw  syscall.RawConn
	seen atomic.Pointer[seen] // at the last look; nil: there was none

	// owned by who looks
	counted counts
	loss    loss
	stuck   bool // it could not be switched, and that was said
}

// seen is a connection at one look.
type seen struct {
	name string // of its congestion control
	loss loss
}

// watch looks after a connection from now on.
func (c *Control) watch(raw net.Conn) net.Conn {
	tcp, ok := raw.(*net.TCPConn)
	if !ok {
		return raw
	}
	fd, err := tcp.SyscallConn()
	if err != nil {
		return raw
	}
	k := &conn{TCPConn: tcp, c: c, raw: fd}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[k] = struct{}{}
	return k
}

// Close implements net.Conn.
func (k *conn) Close() error {
	k.c.forget(k)
	return k.TCPConn.Close()
}

// look counts what was sent and lost since it was last called, and switches the connection if that asks for it.
func (k *conn) look(of choice) error {
	name, now, err := measure(k.raw)
	if err != nil {
		return err
	}
	k.loss = k.loss.next(now.since(k.counted))
	k.counted = now
	if of.switches() {
		want := of.clean
		if k.loss.lossy {
			want = of.lossy
		}
		name = k.use(want, name)
	}
	k.seen.Store(&seen{name, k.loss})
	return nil
}

// use switches to another congestion control than the one that is in use, and returns which is in use then.
func (k *conn) use(want, used string) string {
	if want == used {
		return used
	}
	log := k.c.cfg.Logger.With("region", k.c.region(k), "remote", k.RemoteAddr().String(), "lost", k.loss.share())
	if err := setName(k.raw, want); err != nil {
		if !k.stuck {
			log.Warn("a connection keeps its congestion control", "uses", used, "err", err)
		}
		k.stuck = true
		return used
	}
	k.stuck = false
	log.Info("a connection has another congestion control", "was", used, "uses", want)
	return want
}
