package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// backdate is how much older than now a certificate says it is: clocks differ.
const backdate = time.Hour

// NewCA makes a CA: its certificate and its key, in PEM.
func NewCA(now time.Time, lifetime time.Duration) (cert, key []byte, err error) {
	t := template(now, lifetime)
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return nil, nil, fmt.Errorf("read randomness: %w", err)
	}
	t.Subject = pkix.Name{CommonName: fmt.Sprintf("Roam CA %s %x", now.UTC().Format("2006-01-02"), id)} // told apart by people
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return issue(t, nil)
}

// CA signs certificates.
type CA struct{ pair tls.Certificate }

// ReadCA reads what NewCA made.
func ReadCA(cert, key []byte) (*CA, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	if !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is no CA", pair.Leaf.Subject)
	}
	return &CA{pair}, nil
}

// NewNode makes a node's certificate, for both ends of a connection, and its key, in PEM. It does not outlive the CA.
func (ca *CA) NewNode(name string, now time.Time, lifetime time.Duration) (cert, key []byte, err error) {
	t := template(now, lifetime)
	if left := ca.pair.Leaf.NotAfter; t.NotAfter.After(left) {
		t.NotAfter = left
	}
	if !t.NotAfter.After(now) {
		return nil, nil, fmt.Errorf("the CA expired at %s", t.NotAfter.Format(time.RFC3339))
	}
	t.Subject, t.URIs = pkix.Name{CommonName: name}, []*url.URL{uriOf(name)}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return issue(t, &ca.pair)
}

func template(now time.Time, lifetime time.Duration) *x509.Certificate {
	return &x509.Certificate{NotBefore: now.Add(-backdate), NotAfter: now.Add(lifetime)}
}

// issue signs a certificate for a new key; nil: by that key itself.
func issue(t *x509.Certificate, by *tls.Certificate) (cert, key []byte, err error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, nil, fmt.Errorf("read randomness: %w", err)
	}
	t.SerialNumber = serial
	parent, signer := t, crypto.PrivateKey(own)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, own.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
}
