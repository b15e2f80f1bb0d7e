package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// authority is a CA for tests.
type authority struct {
	cert []byte
	ca   *CA
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	cert, key, err := NewCA(time.Now(), 10*day)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ReadCA(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, ca}
}

func (a *authority) node(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	cert, key, err := a.ca.NewNode(name, time.Now(), day)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// party is a node's end, with its own counter.
type party struct {
	*Peers
	refused *prometheus.CounterVec
	off     time.Duration // of its clock
}

func newParty(t testing.TB, name string, by *authority, trusted ...*authority) *party {
	t.Helper()
	p := &party{refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "refused"}, []string{"reason"})}
	p.Peers = NewPeers(Config{Name: name, Refused: p.refused, Now: func() time.Time { return time.Now().Add(p.off) }})
	if err := p.renew(t, name, by, trusted...); err != nil {
		t.Fatal(err)
	}
	return p
}

// renew gives a party a fresh certificate, and other CAs to trust besides its own.
func (p *party) renew(t testing.TB, name string, by *authority, trusted ...*authority) error {
	t.Helper()
	cas := append([]byte(nil), by.cert...)
	for _, a := range trusted {
		cas = append(cas, a.cert...)
	}
	cert, key := by.node(t, name)
	return p.Take(cas, cert, key)
}

func (p *party) count(reason string) float64 {
	return testutil.ToFloat64(p.refused.WithLabelValues(reason))
}

// sockets are the two ends of a TCP connection.
func sockets(t testing.TB) (dialed, accepted net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if accepted, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{dialed, accepted} {
		c.SetDeadline(time.Now().Add(time.Minute))
		t.Cleanup(func() { c.Close() })
	}
	return dialed, accepted
}

// meet has one call the other: what each gets, and what each is told.
func meet(t testing.TB, caller, called *party, known ...string) (out, in net.Conn, outErr, inErr error) {
	t.Helper()
	dialed, accepted := sockets(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if in, inErr = called.Accept(t.Context(), accepted); inErr != nil {
			accepted.Close()
		}
	}()
	dial := caller.Dialer(func(context.Context, string) (net.Conn, error) { return dialed, nil }, func(string) []string { return known })
	if out, outErr = dial(t.Context(), "there"); outErr == nil {
		t.Cleanup(func() { out.Close() })
	}
	<-done
	if inErr == nil {
		t.Cleanup(func() { in.Close() })
	}
	return out, in, outErr, inErr
}

// says has one end say a word that the other hears.
func says(from, to net.Conn) error {
	if _, err := io.WriteString(from, "word"); err != nil {
		return err
	}
	_, err := io.ReadFull(to, make([]byte, 4))
	return err
}

func TestBothKnowWhoIsThere(t *testing.T) {
	ca := newAuthority(t)
	b1, s1 := newParty(t, "beijing/b1", ca), newParty(t, "shanghai/s1", ca)
	out, in, outErr, inErr := meet(t, b1, s1, "shanghai/s1", "shanghai/s0")
	if err := errors.Join(outErr, inErr); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(says(out, in), says(in, out)); err != nil {
		t.Fatal(err)
	}
	if there, here := out.(*conn).PeerName(), in.(*conn).PeerName(); there != "shanghai/s1" || here != "beijing/b1" {
		t.Errorf("they take each other for %s and %s", there, here)
	}
	if err := s1.SameRegion(in); err == nil || s1.count(reasonIdentity) != 1 {
		t.Errorf("beijing is of region shanghai: %v", err)
	}
	if v := out.(*conn).ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("TLS %x", v)
	}
}

// TestRefused: who is not to be let in is told apart by reason, by the one who accepts and by the one who calls.
func TestRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	for _, c := range []struct {
		what, reason string
		caller       *party
		off          time.Duration // of the clock of who accepts
	}{
		{"a foreign CA", reasonCertificate, newParty(t, "beijing/b1", other, ca), 0},
		{"an expired certificate", reasonExpired, newParty(t, "beijing/b1", ca), 2 * day},
	} {
		called := newParty(t, "shanghai/s1", ca)
		called.off = c.off
		out, _, outErr, inErr := meet(t, c.caller, called)
		if inErr == nil || called.count(c.reason) != 1 {
			t.Errorf("%s: %v, counted %v", c.what, inErr, called.count(c.reason))
		}
		if outErr == nil {
			_, outErr = out.Read(make([]byte, 1))
		}
		if outErr == nil || !strings.Contains(outErr.Error(), "refuses this node's certificate") {
			t.Errorf("%s: the caller is told %v", c.what, outErr)
		}
	}
	caller := newParty(t, "shanghai/s1", ca)
	if _, _, err, _ := meet(t, caller, newParty(t, "beijing/b1", ca), "beijing/b2"); err == nil ||
		!strings.Contains(err.Error(), "beijing/b2 is there, and the certificate is that of beijing/b1") || caller.count(reasonIdentity) != 1 {
		t.Errorf("somebody else than membership says: %v, counted %v", err, caller.count(reasonIdentity))
	}
}

// TestWithoutCertificateOrTLS: who shows nothing is refused in words; a probe that says nothing is not counted.
func TestWithoutCertificateOrTLS(t *testing.T) {
	called := newParty(t, "shanghai/s1", newAuthority(t))
	for reason, call := range map[string]func(net.Conn) error{
		reasonCertificate: func(c net.Conn) error {
			naked := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			_, err := naked.Read(make([]byte, 1))
			return err
		},
		reasonClear: func(c net.Conn) error {
			io.WriteString(c, "PRI * HTTP/2.0\r\n")
			_, err := io.ReadAll(c)
			return err
		},
		reasonHandshake: func(c net.Conn) error { return c.Close() },
	} {
		dialed, accepted := sockets(t)
		told := make(chan error, 1)
		go func() { told <- call(dialed) }()
		_, err := called.Accept(t.Context(), accepted)
		accepted.Close()
		<-told
		want := 1.0
		if reason == reasonHandshake {
			want = 0
		}
		if err == nil || called.count(reason) != want {
			t.Errorf("%s: %v, counted %v", reason, err, called.count(reason))
		}
	}
}

// TestRotation: a CA is added, certificates are exchanged, the old CA is removed, and connections go on all the time, but for
// that of a peer who still has a certificate of the removed one.
func TestRotation(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	s1, b1, b2 := newParty(t, "shanghai/s1", old), newParty(t, "beijing/b1", old), newParty(t, "beijing/b2", old)
	late, lateIn, err, _ := meet(t, b2, s1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*party{s1, b1} {
		name := p.cfg.Name
		if err := errors.Join(p.renew(t, name, old, fresh), p.renew(t, name, fresh, old)); err != nil {
			t.Fatal(err)
		}
	}
	out, in, outErr, inErr := meet(t, b1, s1)
	if err := errors.Join(outErr, inErr, says(out, in), says(late, lateIn)); err != nil {
		t.Fatal(err)
	}
	if err := s1.renew(t, "shanghai/s1", fresh); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(says(out, in), says(in, out)); err != nil {
		t.Errorf("a connection with a certificate of the new CA ended: %v", err)
	}
	if err := says(late, lateIn); err == nil || s1.count(reasonRemoved) != 1 {
		t.Errorf("a connection with a certificate of the removed CA goes on; counted %v", s1.count(reasonRemoved))
	}
	if _, _, _, err := meet(t, b2, s1); err == nil {
		t.Error("a certificate of the removed CA was let in")
	}
}

// TestExpiryEndsNoConnection: a certificate that ends is refused when its node comes again, not before.
func TestExpiryEndsNoConnection(t *testing.T) {
	ca, more := newAuthority(t), newAuthority(t)
	s1, b1 := newParty(t, "shanghai/s1", ca), newParty(t, "beijing/b1", ca)
	out, in, err, _ := meet(t, b1, s1)
	if err != nil {
		t.Fatal(err)
	}
	s1.off = day + time.Hour
	cas := append(append([]byte(nil), ca.cert...), more.cert...)
	cert, key, err := ca.ca.NewNode("shanghai/s1", s1.cfg.Now(), day)
	if err := errors.Join(err, s1.Take(cas, cert, key), says(out, in)); err != nil {
		t.Error(err)
	}
}

// TestWrongFilesAreRefused: a file that is cut short anywhere, or belongs to something else, changes nothing.
func TestWrongFilesAreRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	p := newParty(t, "beijing/b1", ca)
	before := p.bundle()
	both := append(append([]byte(nil), other.cert...), ca.cert...)
	cert, key := ca.node(t, "beijing/b1")
	_, otherKey := ca.node(t, "beijing/b1")
	theirs, theirKey := ca.node(t, "beijing/b2")
	foreign, foreignKey := other.node(t, "beijing/b1")
	web, webKey, err := issueWeb(ca)
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string][3][]byte{
		"no CA": {nil, cert, key}, "another's key": {both, cert, otherKey}, "another node": {both, theirs, theirKey},
		"a CA that is not in the bundle": {ca.cert, foreign, foreignKey}, "a node's certificate for a CA": {cert, cert, key},
		"no node's name": {both, web, webKey}, "a key for a CA": {append(both, key...), cert, key},
	} {
		if err := p.Take(f[0], f[1], f[2]); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	whole := []int{len(other.cert), len(both)}
	for i := range len(both) {
		if i == whole[0] || i >= whole[1]-1 { // the last newline is not needed
			continue
		}
		if err := p.Take(both[:i], cert, key); err == nil && i != whole[0]-1 {
			t.Errorf("CAs cut short after %d bytes were taken", i)
		}
	}
	for i := range len(cert) - 1 {
		if err := p.Take(both, cert[:i], key); err == nil {
			t.Errorf("a certificate cut short after %d bytes was taken", i)
		}
	}
	if p.bundle() != before {
		t.Error("what was refused changed something")
	}
}

func issueWeb(ca *authority) (cert, key []byte, err error) {
	t := template(time.Now(), day)
	t.DNSNames = []string{"chat.example.org"}
	return issue(t, &ca.ca.pair)
}

// TestClients: clients get the certificate that there is when they connect, and what is wrong changes nothing.
func TestClients(t *testing.T) {
	ca := newAuthority(t)
	c := NewClients(nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := c.Listener(ln)
	defer served.Close()
	for range 2 {
		cert, key, err := issueWeb(ca)
		if err := errors.Join(err, c.Take(cert, key)); err != nil {
			t.Fatal(err)
		}
		if c.Take(cert, nil) == nil || c.Take(nil, key) == nil {
			t.Error("half of a pair was taken")
		}
		go func() {
			if conn, err := served.Accept(); err == nil {
				conn.(*tls.Conn).HandshakeContext(context.Background())
				conn.Close()
			}
		}()
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := conn.ConnectionState().PeerCertificates[0], c.own.Load().Leaf; !got.Equal(want) {
			t.Error("a client was shown another certificate than the last")
		}
		conn.Close()
	}
}
