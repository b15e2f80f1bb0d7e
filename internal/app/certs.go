package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/certs"
)

// CertsCAOptions is what `roam certs ca` is told.
type CertsCAOptions struct {
	Out  string `required:"" placeholder:"DIR" help:"Directory for ca.crt, which every node gets (--tls-ca), and ca.key, which none does. Files that are there stay."`
	Days int    `default:"3650" help:"How long the CA is valid."`
}

// CertsNodeOptions is what `roam certs node` is told.
type CertsNodeOptions struct {
	CA      string `name:"ca" env:"ROAM_CERTS_CA" required:"" placeholder:"DIR" help:"Directory that roam certs ca has made."`
	Region  string `required:"" placeholder:"NAME" help:"Region of the node."`
	Node    string `required:"" placeholder:"NAME" help:"Name of the node."`
	Days    int    `default:"365" help:"How long the certificate is valid, at most as long as the CA."`
	Out     string `required:"" placeholder:"DIR" help:"Directory for REGION.NODE.crt (--tls-cert) and REGION.NODE.key (--tls-key)."`
	Replace bool   `help:"Replace the files that are there. A node that has them in use goes on with the new ones."`
}

// maxDays bounds certificates.
const maxDays = 36500

const days = 24 * time.Hour

// CertsCA makes a CA.
func CertsCA(o CertsCAOptions, now time.Time, w io.Writer) error {
	if o.Days < 1 || o.Days > maxDays {
		return fmt.Errorf("--days %d: 1 to %d", o.Days, maxDays)
	}
	cert, key, err := certs.NewCA(now, time.Duration(o.Days)*days)
	if err != nil {
		return err
	}
	if err := writePair(o.Out, "ca", cert, key, false); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s is for every node (--tls-ca). Keep %s where no node runs: who has it can be any node.\n",
		filepath.Join(o.Out, "ca.crt"), filepath.Join(o.Out, "ca.key"))
	return err
}

// CertsNode makes a node's certificate.
func CertsNode(o CertsNodeOptions, now time.Time, w io.Writer) error {
	var errs []error
	for _, n := range []struct{ flag, name string }{{"--region", o.Region}, {"--node", o.Node}} {
		if !crdt.ValidRegion(n.name) {
			errs = append(errs, fmt.Errorf("%s %q: 1 to 32 of a-z, 0-9 and -", n.flag, n.name))
		}
	}
	if o.Days < 1 || o.Days > maxDays {
		errs = append(errs, fmt.Errorf("--days %d: 1 to %d", o.Days, maxDays))
	}
	caCert, err := os.ReadFile(filepath.Join(o.CA, "ca.crt"))
	caKey, keyErr := os.ReadFile(filepath.Join(o.CA, "ca.key"))
	if err := errors.Join(append(errs, err, keyErr)...); err != nil {
		return err
	}
	ca, err := certs.ReadCA(caCert, caKey)
	if err != nil {
		return fmt.Errorf("--ca %s: %w", o.CA, err)
	}
	cert, key, err := ca.NewNode(certs.Name(o.Region, o.Node), now, time.Duration(o.Days)*days)
	if err != nil {
		return fmt.Errorf("--ca %s: %w", o.CA, err)
	}
	name := o.Region + "." + o.Node // no name has a dot
	if err := writePair(o.Out, name, cert, key, o.Replace); err != nil {
		return err
	}
	path := filepath.Join(o.Out, name)
	_, err = fmt.Fprintf(w, "%s.crt and %s.key are for node %s of region %s (--tls-cert, --tls-key).\n", path, path, o.Node, o.Region)
	return err
}

// writePair writes a certificate and its key, in a directory that is made if need be.
func writePair(dir, name string, cert, key []byte, over bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	write := create
	if over {
		write = replace
	}
	certFile, keyFile := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if _, err := os.Lstat(certFile); err == nil && !over {
		return fmt.Errorf("%s is there already, and stays", certFile) // before a key is written that belongs to nothing
	}
	return errors.Join(write(keyFile, key), write(certFile, cert))
}
