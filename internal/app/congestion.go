package app

import (
	"context"
	"net"
	"syscall"
)

// congestion is the TCP congestion control of connections between nodes; "": the machine's.
type congestion string

func (c congestion) control(_, _ string, raw syscall.RawConn) error {
	if c == "" {
		return nil
	}
	return setCongestion(raw, string(c))
}

func (c congestion) listen(addr string) (net.Listener, error) {
	return (&net.ListenConfig{Control: c.control}).Listen(context.Background(), "tcp", addr)
}

func (c congestion) dial(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{Control: c.control}).DialContext(ctx, "tcp", addr)
}

// check reports whether the machine has it, by a socket of that kind.
func (c congestion) check() error {
	if c == "" {
		return nil
	}
	ln, err := c.listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	return ln.Close()
}
