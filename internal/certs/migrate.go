package certs

import (
	"errors"
	"io"
	"net"
)

// recordTLS is the first byte of who speaks TLS. Neither gRPC nor Raft begins with it.
const recordTLS = 0x16

// peek says what a peer speaks, and returns the connection as it was.
func peek(raw net.Conn) (conn net.Conn, isTLS bool, err error) {
	var head [1]byte
	if _, err := io.ReadFull(raw, head[:]); err != nil {
		return nil, false, err
	}
	return &unread{raw, head[:]}, head[0] == recordTLS, nil
}

// unread gives back what was read to see what a peer speaks.
type unread struct {
	net.Conn
	head []byte
}

// Read implements net.Conn.
func (c *unread) Read(b []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.head)
	c.head = c.head[n:]
	return n, nil
}

// speaksNoTLS reports whether a handshake failed as it does with a peer that knows nothing of TLS: it hangs up, or says something else.
func speaksNoTLS(err error) bool {
	var r refusal
	alert := (*net.OpError)(nil)
	return !errors.As(err, &r) && !(errors.As(err, &alert) && alert.Op == "remote error")
}
