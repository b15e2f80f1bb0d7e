package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

const certBlock = "CERTIFICATE"

// bundle is what a node shows and whom it trusts. It is never changed, only replaced.
type bundle struct {
	own tls.Certificate
	cas *x509.CertPool
	ca  *x509.Certificate // which own is of
}

// readBundle reads all of it, or nothing: a file that was cut short must not take a CA away.
func readBundle(ca, cert, key []byte, now time.Time) (*bundle, error) {
	cas, err := readCAs(ca)
	if err != nil {
		return nil, fmt.Errorf("the CAs: %w", err)
	}
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate and key: %w", err)
	}
	b := &bundle{own: own, cas: cas}
	chain := []*x509.Certificate{own.Leaf}
	for _, der := range own.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate's chain: %w", err)
		}
		chain = append(chain, c)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if b.ca, err = b.verify(chain, use, now); err != nil {
			return nil, fmt.Errorf("this node's own certificate would not be trusted: %w", err)
		}
	}
	return b, nil
}

func readCAs(text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != certBlock || err != nil {
			return nil, fmt.Errorf("block %d is no certificate", n+1)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%s is no CA", c.Subject)
		}
		pool.AddCert(c)
		n++
	}
	if bytes.Contains(text, []byte("-----")) {
		return nil, fmt.Errorf("after %d certificates comes one that is not whole", n)
	}
	if n == 0 {
		return nil, errors.New("no certificate in it")
	}
	return pool, nil
}

var errNone = errors.New("the peer shows no certificate")

// verify returns the CA that stands for a chain at that time.
func (b *bundle) verify(chain []*x509.Certificate, use x509.ExtKeyUsage, at time.Time) (root *x509.Certificate, err error) {
	if len(chain) == 0 {
		return nil, errNone
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	found, err := chain[0].Verify(x509.VerifyOptions{
		Roots: b.cas, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use},
	})
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", describe(chain[0]), err)
	}
	return found[0][len(found[0])-1], nil
}

// describe names a certificate that may be anybody's.
func describe(c *x509.Certificate) string {
	name, err := nameOf(c)
	if err != nil {
		name = c.Subject.String()
	}
	return fmt.Sprintf("%.80q, by %.80q", name, strings.TrimSpace(c.Issuer.CommonName))
}
