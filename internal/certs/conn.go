package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// conn is a connection with a peer who is known by name.
type conn struct {
	*tls.Conn
	peers *Peers
	use   x509.ExtKeyUsage // what the peer's certificate is for

	// set by the handshake
	name  string
	chain []*x509.Certificate
	since time.Time // when it was judged: a certificate that ends later does not end the connection
}

func newConn(p *Peers, server bool) *conn {
	c := &conn{peers: p, use: x509.ExtKeyUsageServerAuth}
	if server {
		c.use = x509.ExtKeyUsageClientAuth
	}
	return c
}

// PeerName is who is at the other end, by its certificate: region/node.
func (c *conn) PeerName() string { return c.name }

// Read implements net.Conn. A node that was refused hears of it only now: its handshake was over before its certificate was judged.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, inWords(err)
}

// inWords says what an alert of the other side means.
func inWords(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "remote error" {
		return fmt.Errorf("the other node refuses this node's certificate, and its log says why: %w", err)
	}
	return err
}

// Close implements net.Conn. It does not say goodbye, which could take as long as the link hangs: what goes over these connections
// knows its own end.
func (c *conn) Close() error {
	c.peers.mu.Lock()
	delete(c.peers.open, c)
	c.peers.mu.Unlock()
	return c.NetConn().Close()
}

// refusal is an error with its reason.
type refusal struct {
	reason string
	error
}

// Unwrap returns what it is about.
func (r refusal) Unwrap() error { return r.error }

// judge decides on a peer's certificate, in the handshake.
func (c *conn) judge(b *bundle, chain []*x509.Certificate, may []string) error {
	c.chain, c.since = chain, c.peers.cfg.Now()
	if _, err := b.verify(chain, c.use, c.since); err != nil {
		invalid := x509.CertificateInvalidError{}
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return refusal{reasonExpired, err}
		}
		return refusal{reasonCertificate, err}
	}
	name, err := nameOf(chain[0])
	if err != nil {
		return refusal{reasonIdentity, err}
	}
	if len(may) > 0 && !slices.Contains(may, name) {
		return refusal{reasonIdentity, fmt.Errorf("membership says that %s is there, and the certificate is that of %s",
			strings.Join(may, " or "), name)}
	}
	c.name = name
	return nil
}

// silent reports an end without a word, as probes of a port do: that is nobody who was refused.
func silent(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}
