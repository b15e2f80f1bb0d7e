package app

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/roamsync/roam/internal/certs"
	"github.com/roamsync/roam/internal/reload"
)

// TLSOptions name the files of certificates. All of them are read again when they change.
type TLSOptions struct {
	TLSCA         string `name:"tls-ca" placeholder:"FILE" help:"CAs that nodes' certificates are of, in PEM, one or several. With --tls-cert and --tls-key, all that nodes say to each other at --peer-addr goes over mutual TLS: roam certs. Read again when it changes."`
	TLSCert       string `name:"tls-cert" placeholder:"FILE" help:"This node's certificate, in PEM. Read again when it changes."`
	TLSKey        string `name:"tls-key" placeholder:"FILE" help:"Key of --tls-cert, in PEM. Read again when it changes."`
	TLSMigrate    bool   `name:"tls-migrate" help:"Speak also with nodes that have no --tls-cert, in the clear: for the time in which some have it and others do not."`
	ClientTLSCert string `name:"client-tls-cert" placeholder:"FILE" help:"Certificate for clients, in PEM: --client-addr serves wss:// and nothing else. Read again when it changes."`
	ClientTLSKey  string `name:"client-tls-key" placeholder:"FILE" help:"Key of --client-tls-cert, in PEM. Read again when it changes."`
}

func (o *TLSOptions) forPeers() bool   { return o.TLSCert != "" }
func (o *TLSOptions) forClients() bool { return o.ClientTLSCert != "" }

// scheme is how clients call the node.
func (o *TLSOptions) scheme() string {
	if o.forClients() {
		return "wss://"
	}
	return "ws://"
}

func (o *ServeOptions) checkTLS() error {
	var errs []error
	if some := o.TLSCA + o.TLSCert + o.TLSKey; some != "" && (o.TLSCA == "" || o.TLSCert == "" || o.TLSKey == "") {
		errs = append(errs, errors.New("--tls-ca, --tls-cert and --tls-key are given together, or none of them: make them with roam certs"))
	}
	if o.TLSMigrate && !o.forPeers() {
		errs = append(errs, errors.New("--tls-migrate: without --tls-cert there is nothing to migrate to"))
	}
	if (o.ClientTLSCert == "") != (o.ClientTLSKey == "") {
		errs = append(errs, errors.New("--client-tls-cert and --client-tls-key are given together, or none of them"))
	}
	if o.forClients() && strings.HasPrefix(o.AdvertiseURL, "ws://") {
		errs = append(errs, fmt.Errorf("--advertise-url %s: with --client-tls-cert clients need a wss:// URL", o.AdvertiseURL))
	}
	return errors.Join(errs...)
}

// peerFiles are those of traffic between nodes, which p takes.
func (o *TLSOptions) peerFiles(p *certs.Peers) *reload.Files {
	return reload.New(func(c [][]byte) error { return p.Take(c[0], c[1], c[2]) }, o.TLSCA, o.TLSCert, o.TLSKey)
}

func (o *TLSOptions) clientFiles(c *certs.Clients) *reload.Files {
	return reload.New(func(b [][]byte) error { return c.Take(b[0], b[1]) }, o.ClientTLSCert, o.ClientTLSKey)
}

// checkFiles reads the certificates once, as a start does.
func (o *ServeOptions) checkFiles(now func() time.Time) error {
	if o.checkTLS() != nil {
		return nil // that is said already
	}
	var errs []error
	if o.forPeers() {
		if err := o.peerFiles(certs.NewPeers(certs.Config{Name: certs.Name(o.Region, o.Node), Now: now})).Load(); err != nil {
			errs = append(errs, fmt.Errorf("--tls-ca, --tls-cert, --tls-key: %w", err))
		}
	}
	if o.forClients() {
		if err := o.clientFiles(certs.NewClients(now)).Load(); err != nil {
			errs = append(errs, fmt.Errorf("--client-tls-cert, --client-tls-key: %w", err))
		}
	}
	return errors.Join(errs...)
}
