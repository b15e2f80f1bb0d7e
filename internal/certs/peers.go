package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says whose connections are made.
type Config struct {
	Name string // region/node of this node
	// Now is the time that certificates are judged by; nil is the machine's.
	Now    func() time.Time
	Logger *slog.Logger // nil discards
	// Migrate has peers without TLS let in, and called, in the clear. They have no name.
	Migrate bool
	// Refused counts peers that were not let in, by reason (Reasons); nil counts nowhere.
	Refused *prometheus.CounterVec
}

// Why a peer was refused, or its connection ended.
const (
	reasonClear       = "clear"       // it speaks no TLS
	reasonCertificate = "certificate" // it shows none, or one of a CA that is not trusted
	reasonExpired     = "expired"     // or not valid yet
	reasonIdentity    = "identity"    // it is somebody else than is claimed, or than may do what it does
	reasonHandshake   = "handshake"   // anything else between the first byte and the last of the handshake
	reasonRemoved     = "removed"     // it was let in, and its CA is trusted no longer
)

// Reasons are all of them.
var Reasons = []string{reasonClear, reasonCertificate, reasonExpired, reasonIdentity, reasonHandshake, reasonRemoved}

// Peers makes connections between nodes, over mutual TLS 1.3.
type Peers struct {
	cfg Config

	// guarded by mu
	mu   sync.Mutex
	now  *bundle
	open map[*conn]struct{} // connections that are judged again when the CAs change
}

// NewPeers has no certificate yet: Take gives it one.
func NewPeers(cfg Config) *Peers {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Peers{cfg: cfg, open: map[*conn]struct{}{}}
}

// Take goes on with other CAs, certificate and key, in PEM, or, if they are of no use, with what there was. Connections stay, but
// those of peers whose CA is trusted no longer end.
func (p *Peers) Take(ca, cert, key []byte) error {
	b, err := readBundle(ca, cert, key, p.cfg.Now())
	if err != nil {
		return err
	}
	name, err := nameOf(b.own.Leaf)
	if err != nil {
		return err
	}
	if name != p.cfg.Name {
		return fmt.Errorf("the certificate is that of %s, and this node is %s", name, p.cfg.Name)
	}
	p.mu.Lock()
	p.now = b
	var lost []*conn
	for c := range p.open {
		if _, err := b.verify(c.chain, c.use, c.since); err != nil {
			lost = append(lost, c)
		}
	}
	p.mu.Unlock()
	for _, c := range lost {
		p.count(reasonRemoved)
		p.cfg.Logger.Warn("connection ended: the CA of the peer's certificate is trusted no longer", "peer", c.name)
		c.NetConn().Close() // its owner sees an error, and closes it
	}
	return nil
}

// Accept shakes hands with a peer that has connected.
func (p *Peers) Accept(ctx context.Context, raw net.Conn) (net.Conn, error) {
	if !p.cfg.Migrate {
		return p.shake(ctx, raw, true, nil)
	}
	peeked, isTLS, err := peek(raw)
	if err != nil || !isTLS {
		return peeked, err
	}
	return p.shake(ctx, peeked, true, nil)
}

// Dialer shakes hands with whom dial reaches. known names the nodes that membership knows at an address: one of them has to be
// there, if it knows any.
func (p *Peers) Dialer(dial func(context.Context, string) (net.Conn, error), known func(addr string) []string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		raw, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		c, err := p.shake(ctx, raw, false, known(addr))
		if err != nil {
			raw.Close()
			if p.cfg.Migrate && ctx.Err() == nil && speaksNoTLS(err) {
				return dial(ctx, addr)
			}
			return nil, fmt.Errorf("TLS with %s: %w", addr, err)
		}
		return c, nil
	}
}

// SameRegion refuses who is not of this node's region.
func (p *Peers) SameRegion(c net.Conn) error {
	own, _, _ := strings.Cut(p.cfg.Name, "/")
	name := ""
	if named, ok := c.(interface{ PeerName() string }); ok {
		name = named.PeerName()
	} else if p.cfg.Migrate {
		return nil
	}
	if region, _, _ := strings.Cut(name, "/"); region != own {
		p.count(reasonIdentity)
		return fmt.Errorf("the certificate is that of %s, which is not of region %s", name, own)
	}
	return nil
}

// Valid says when this node's certificate is, and the CA that it is of. Only after Take.
func (p *Peers) Valid() (own, ca Span) {
	b := p.bundle()
	return spanOf(b.own.Leaf), spanOf(b.ca)
}

// Span is when a certificate is valid.
type Span struct{ From, Until time.Time }

func spanOf(c *x509.Certificate) Span { return Span{c.NotBefore, c.NotAfter} }

func (p *Peers) bundle() *bundle {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *Peers) count(reason string) {
	if p.cfg.Refused != nil {
		p.cfg.Refused.WithLabelValues(reason).Inc()
	}
}

// shake makes a connection of the other's that is who may be there; nobody given, anyone who is trusted.
func (p *Peers) shake(ctx context.Context, raw net.Conn, server bool, may []string) (net.Conn, error) {
	b := p.bundle()
	if b == nil {
		return nil, errors.New("this node has no certificate yet")
	}
	c := newConn(p, server)
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{b.own}, Time: p.cfg.Now, SessionTicketsDisabled: true,
		DynamicRecordSizingDisabled: true, // that is for pages that appear early; entries and records are of use whole
		// Names are not those of hosts: VerifyConnection does it all, on both sides.
		ClientAuth: tls.RequestClientCert, InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error { return c.judge(b, s.PeerCertificates, may) },
	}
	if c.Conn = tls.Client(raw, cfg); server {
		c.Conn = tls.Server(raw, cfg)
	}
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, p.refused(ctx, err)
	}
	return c, p.keep(c, b)
}

// keep notes a connection. The CAs may have changed since it was judged.
func (p *Peers) keep(c *conn, judged *bundle) error {
	p.mu.Lock()
	p.open[c] = struct{}{}
	now := p.now
	p.mu.Unlock()
	if now == judged {
		return nil
	}
	_, err := now.verify(c.chain, c.use, c.since)
	if err != nil {
		p.count(reasonCertificate)
		c.Close()
	}
	return err
}

// refused counts why, and says it in words.
func (p *Peers) refused(ctx context.Context, err error) error {
	var header tls.RecordHeaderError
	var r refusal
	switch {
	case errors.As(err, &r):
		p.count(r.reason)
	case p.cfg.Migrate && speaksNoTLS(err):
	case errors.As(err, &header):
		p.count(reasonClear)
		return fmt.Errorf("the peer speaks no TLS: give it --tls-ca, --tls-cert and --tls-key: %w", err)
	case ctx.Err() == nil && !silent(err):
		p.count(reasonHandshake)
	}
	return inWords(err)
}
