package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// Clients serves TLS to clients, who show no certificate.
type Clients struct {
	own atomic.Pointer[tls.Certificate]
	now func() time.Time
}

// NewClients has no certificate yet: Take gives it one. now nil is the machine's time.
func NewClients(now func() time.Time) *Clients {
	if now == nil {
		now = time.Now
	}
	return &Clients{now: now}
}

// Take goes on with another certificate and key, in PEM, or, if they are of no use, with those that there were.
func (c *Clients) Take(cert, key []byte) error {
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("certificate and key: %w", err)
	}
	if end := own.Leaf.NotAfter; !c.now().Before(end) {
		return fmt.Errorf("the certificate expired at %s", end.Format(time.RFC3339))
	}
	c.own.Store(&own)
	return nil
}

// Listener serves TLS on a listener. WebSockets need HTTP/1.1.
func (c *Clients) Listener(ln net.Listener) net.Listener {
	return tls.NewListener(ln, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Time: c.now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if own := c.own.Load(); own != nil {
				return own, nil
			}
			return nil, errors.New("no certificate yet")
		},
	})
}

// Valid says when the certificate is. Only after Take.
func (c *Clients) Valid() Span { return spanOf(c.own.Load().Leaf) }
