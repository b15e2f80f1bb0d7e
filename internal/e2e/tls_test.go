package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// authority is a CA made by `roam certs`, in a directory of its own.
type authority string

func newAuthority(t *testing.T) authority {
	t.Helper()
	dir := t.TempDir()
	must(t, command("certs", "ca", "--out", dir))
	return authority(dir)
}

// command runs roam to its end.
func command(words ...string) error {
	p, err := start(words[0], nil, binary, words...)
	if err != nil {
		return err
	}
	if code, err := p.exit(patience); err != nil || code != 0 {
		return fmt.Errorf("roam %v: status %d, %w: %s", words, code, err, p.errout.tail())
	}
	return nil
}

// certify gives a site a certificate, and the flags about it.
func (a authority) certify(s *site) error {
	dir := filepath.Join(string(a), "nodes")
	name := filepath.Join(dir, s.region+"."+s.node)
	s.extra = append(s.extra, "--tls-ca", filepath.Join(string(a), "ca.crt"), "--tls-cert", name+".crt", "--tls-key", name+".key")
	return command("certs", "node", "--ca", string(a), "--region", s.region, "--node", s.node, "--out", dir)
}

// shows waits until a node's metric with all the words is above 0.
func (s *site) shows(words ...string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		resp, err := http.Get("http://" + s.admin + "/metrics")
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		last = string(b)
	lines:
		for line := range strings.Lines(last) {
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue lines
				}
			}
			if !strings.HasSuffix(line, " 0\n") {
				return nil
			}
		}
	}
	return fmt.Errorf("%s shows no %v after %v", s.node, words, patience)
}

// TestTLS: two regions, one of three nodes and one without data, speak TLS with each other. Nodes with a foreign CA, and without TLS, are
// refused in words and counted, and cost the others nothing.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, foreign := newAuthority(t), newAuthority(t)
	list := nodesOf(t, "beijing", 3)
	edge := edgesOf(t, list, 1)[0]
	far := newSite("shanghai", t.TempDir(), list[0].secret).embedded()
	far.join = list[0].join
	t.Cleanup(func() { endSites(t, []*site{far}) })
	for _, s := range append(list, edge, far) {
		must(t, ca.certify(s))
	}
	must(t, startNodes(list))
	must(t, errors.Join(edge.startServe(), far.startServe(), edge.ready(), far.ready(), list[0].meets(far)))

	d := user(t, "tina", "phone")
	must(t, d.connect(edge, "tina/trip"))
	must(t, d.put("tina/trip", ask("q", "one two three")))
	must(t, d.finished("tina/trip", "q"))
	agreeFresh(t, d, "tina/trip", far)
	must(t, d.until("it is safe", func() bool { return d.safe["q"] }))

	stranger := newSite("tokyo", t.TempDir(), list[0].secret).embedded()
	must(t, foreign.certify(stranger))
	naked := newSite("osaka", t.TempDir(), list[0].secret).embedded()
	t.Cleanup(func() { endSites(t, []*site{stranger, naked}) })
	end := crowd(t, "tina", list, talks{clients: 6, rest: 100 * time.Millisecond, calm: true})
	for _, s := range []*site{stranger, naked} {
		s.join = list[0].join
		must(t, errors.Join(s.startServe(), s.ready()))
	}
	end(errors.Join(
		list[0].shows("roam_tls_refused_total", `"certificate"`), list[0].shows("roam_tls_refused_total", `"clear"`),
		anyOf("signed by unknown authority", list), anyOf("the peer speaks no TLS", list),
		lineOf("refuses this node's certificate", stranger), lineOf("the peer speaks TLS, and this node does not", naked),
		lineOf("is in the clear", naked),
	))
	must(t, d.put("tina/trip", msg("after", "all is well")))
	must(t, d.until("it is safe", func() bool { return d.safe["after"] }))
	for _, s := range []*site{stranger, naked} {
		if got := len(fresh(t, s, "tina", "tina/trip").Entries); got != 0 {
			t.Errorf("%s has got %d entries of others", s.region, got)
		}
	}
}

// lineOf waits until a node has said something.
func lineOf(words string, s *site) error {
	_, err := s.serve.says(words)
	return err
}

// anyOf waits until one of some nodes has said something.
func anyOf(words string, list []*site) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		for _, s := range list {
			if _, ok := s.serve.said(words); ok {
				return nil
			}
		}
	}
	return fmt.Errorf("nobody has said %q", words)
}

// TestKeysLive: the ring of two regions, and the certificate for clients, are exchanged while their nodes run.
func TestKeysLive(t *testing.T) {
	t.Parallel()
	list := sites(t, "beijing", "shanghai")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "web.crt"), filepath.Join(dir, "web.key")
	must(t, webPair(cert, key))
	beijing, shanghai := list[0].embedded(), list[1].embedded()
	beijing.extra = append(beijing.extra, "--client-tls-cert", cert, "--client-tls-key", key)
	must(t, errors.Join(beijing.startServe(), beijing.ready(), shanghai.startServe(), shanghai.ready()))
	if _, _, err := dial(beijing.client); err == nil {
		t.Error("a client without TLS was served")
	}
	first, err := shownTo(beijing)
	must(t, err)
	d := user(t, "uma", "phone")
	must(t, d.connect(shanghai, "uma/trip"))
	for i, step := range []string{"--add", "--use", "--drop"} {
		must(t, command("keygen", step, beijing.secret))
		for _, s := range list {
			must(t, s.shows("roam_files_reloaded_total", `"secret"`, `"taken"`, fmt.Sprintf("} %d\n", i+1)))
		}
		oid := "after" + step
		must(t, d.put("uma/trip", msg(oid, "hello")))
		must(t, d.until(oid+" is safe", func() bool { return d.safe[oid] }))
	}
	must(t, webPair(cert, key))
	must(t, beijing.shows("roam_files_reloaded_total", `"client-tls"`, `"taken"`))
	second, err := shownTo(beijing)
	must(t, err)
	if first.Equal(second) {
		t.Error("clients are still shown the first certificate")
	}
	p, err := start("status", nil, binary, "status", "--admin", beijing.admin)
	must(t, err)
	if code, err := p.exit(patience); code != 0 || err != nil || !strings.Contains(p.out.all(), `Certificate "client" is valid until`) {
		t.Errorf("status %d, %v: %s%s", code, err, p.out.all(), p.errout.all())
	}
}

// shownTo connects as a client over TLS that trusts what it is shown, and returns that.
func shownTo(s *site) (shown *x509.Certificate, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(c tls.ConnectionState) error {
		shown = c.PeerCertificates[0]
		return nil
	}}}
	ws, _, err := websocket.Dial(ctx, "wss://"+s.client+"/v1/connect", &websocket.DialOptions{
		Subprotocols: []string{"roam.v1.json"}, HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		return nil, err
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageText, []byte(`{"t":"hello","id":1,"token":"dev:uma","device":"tls"}`)); err != nil {
		return nil, err
	}
	_, b, err := ws.Read(ctx)
	if err == nil && !strings.Contains(string(b), "wss://"+s.client) {
		err = fmt.Errorf("clients are told %s", b)
	}
	return shown, err
}

// webPair writes a certificate for 127.0.0.1 that has signed itself, and its key.
func webPair(cert, key string) error {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	c := &x509.Certificate{SerialNumber: serial, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, own.Public(), own)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	return errors.Join(err, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
