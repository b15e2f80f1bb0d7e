package app

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/roamsync/roam/internal/certs"
	"github.com/roamsync/roam/internal/peerport"
	"github.com/roamsync/roam/replication"
	"github.com/roamsync/roam/wire/peerpb"
)

// vault is a CA and what it has signed.
type vault struct {
	t   testing.TB
	dir string
}

func newVault(t testing.TB) *vault {
	t.Helper()
	v := &vault{t, t.TempDir()}
	if err := CertsCA(CertsCAOptions{Out: v.dir, Days: 10}, time.Now(), io.Discard); err != nil {
		t.Fatal(err)
	}
	return v
}

// flags are those of a node with a certificate of its own.
func (v *vault) flags(region, node string) TLSOptions {
	v.t.Helper()
	o := CertsNodeOptions{CA: v.dir, Region: region, Node: node, Days: 5, Out: filepath.Join(v.dir, "nodes"), Replace: true}
	if err := CertsNode(o, time.Now(), io.Discard); err != nil {
		v.t.Fatal(err)
	}
	path := filepath.Join(o.Out, region+"."+node)
	return TLSOptions{TLSCA: filepath.Join(v.dir, "ca.crt"), TLSCert: path + ".crt", TLSKey: path + ".key"}
}

// peers connects as the node that a certificate names.
func (v *vault) peers(region, node string) *certs.Peers {
	v.t.Helper()
	p, o := certs.NewPeers(certs.Config{Name: certs.Name(region, node)}), v.flags(region, node)
	if err := o.peerFiles(p).Load(); err != nil {
		v.t.Fatal(err)
	}
	return p
}

func tcp(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

func nobodyKnown(string) []string { return nil }

// counted is what a counter of a node shows for a reason.
func (n *node) counted(name, reason string) string {
	rec := httptest.NewRecorder()
	n.handler(n.serveStatus).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		if rest, ok := strings.CutPrefix(line, name+`{reason="`+reason+`"} `); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "nothing"
}

// TestNobodyIsSomebodyElse: a node with a certificate, and the secret, is let in as who its certificate says, and as nobody else.
func TestNobodyIsSomebodyElse(t *testing.T) {
	v := newVault(t)
	w := newWorld(t)
	w.tune = func(o *ServeOptions) { o.TLSOptions = v.flags(o.Region, o.Node) }
	w.start("beijing", t.TempDir(), w.ring)
	n := w.nodes["beijing"]
	ask := func(region, node string) error {
		conns := replication.NewConns(replication.ConnsConfig{
			Region: region, Node: node, Keys: w.ring.derive("link"), Dial: v.peers("shanghai", "s1").Dialer(tcp, nobodyKnown),
		})
		defer conns.Close()
		conn, err := conns.To(n.opts.PeerAddr)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = peerpb.NewPeerClient(conn).Identify(ctx, &peerpb.IdentifyRequest{})
		return err
	}
	if err := ask("shanghai", "s1"); err != nil {
		t.Error(err)
	}
	for _, claim := range [][2]string{{"beijing", "n1"}, {"shanghai", "s2"}} {
		if err := ask(claim[0], claim[1]); grpcstatus.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "that of shanghai/s1, not of "+claim[0]) {
			t.Errorf("as %v: %v", claim, err)
		}
	}
	if got := n.counted("roam_replication_refused_total", "identity"); got != "2" {
		t.Errorf("%v are counted", got)
	}

	raftOf := func(region, node string) error {
		port, err := peerport.New(peerport.Config{
			Listener: noListener{}, Keys: w.ring.derive("raft"), Dial: v.peers(region, node).Dialer(tcp, nobodyKnown),
		})
		if err != nil {
			return err
		}
		conn, err := port.Raft("other", func(string) (string, error) { return n.opts.PeerAddr, nil }).Dial(raft.ServerAddress(n.region.ID()), time.Minute)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		conn.Write([]byte{0xff}) // no Raft call: it ends the connection, after it was let in
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	if err := raftOf("beijing", "n2"); err != io.EOF || n.counted("roam_tls_refused_total", "identity") != "0" {
		t.Errorf("a node of the region was refused: %v", err)
	}
	if err := raftOf("shanghai", "s1"); err == nil || n.counted("roam_tls_refused_total", "identity") != "1" {
		t.Errorf("a node of another region was let in to Raft: %v", err)
	}
}

type noListener struct{ net.Listener }

func (noListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestCertsCommand: files are private, belong together, and are not replaced unless that is asked for.
func TestCertsCommand(t *testing.T) {
	v := newVault(t)
	if err := CertsCA(CertsCAOptions{Out: v.dir, Days: 1}, time.Now(), io.Discard); err == nil {
		t.Error("a CA was replaced")
	}
	o := CertsNodeOptions{CA: v.dir, Region: "beijing", Node: "b1", Days: 5, Out: filepath.Join(v.dir, "new", "dir")}
	var said strings.Builder
	if err := CertsNode(o, time.Now(), &said); err != nil || !strings.Contains(said.String(), "beijing.b1.crt") {
		t.Fatal(err, said.String())
	}
	key := filepath.Join(o.Out, "beijing.b1.key")
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != private {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := CertsNode(o, time.Now(), io.Discard); err == nil || !strings.Contains(err.Error(), "stays") {
		t.Errorf("without --replace: %v", err)
	}
	o.Replace = true
	if err := CertsNode(o, time.Now(), io.Discard); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(key); err != nil || bytes.Equal(before, after) {
		t.Errorf("the key was not replaced: %v", err)
	}
	if left, err := os.ReadDir(o.Out); err != nil || len(left) != 2 {
		t.Errorf("%v is left, %v", left, err)
	}
	for flag, spoil := range map[string]func(*CertsNodeOptions){
		"--region": func(o *CertsNodeOptions) { o.Region = "Bei/jing" }, "--node": func(o *CertsNodeOptions) { o.Node = "b.1" },
		"--days": func(o *CertsNodeOptions) { o.Days = 0 }, "ca.key": func(o *CertsNodeOptions) { o.CA = o.Out },
	} {
		bad := o
		spoil(&bad)
		if err := CertsNode(bad, time.Now(), io.Discard); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestKeygenSteps: a ring gets another key in three steps, and in no other order.
func TestKeygenSteps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ring")
	var b bytes.Buffer
	if err := Keygen(KeygenOptions{}, &b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o640); err != nil {
		t.Fatal(err)
	}
	ids := func() []string {
		ring, err := ReadKeyRing(file)
		if err != nil {
			t.Fatal(err)
		}
		return ring.ids()
	}
	old := ids()[0]
	refused := func(o KeygenOptions) {
		t.Helper()
		if err := Keygen(o, io.Discard); err == nil {
			t.Errorf("%+v was done with %v", o, ids())
		}
	}
	done := func(o KeygenOptions) []string {
		t.Helper()
		if err := Keygen(o, io.Discard); err != nil {
			t.Fatal(err)
		}
		return ids()
	}
	refused(KeygenOptions{Use: file})
	refused(KeygenOptions{Drop: file})
	refused(KeygenOptions{Add: file, Use: file})
	got := done(KeygenOptions{Add: file})
	if len(got) != 2 || got[0] != old {
		t.Errorf("%v after --add", got)
	}
	fresh := got[1]
	refused(KeygenOptions{Add: file})
	if got := done(KeygenOptions{Use: file}); len(got) != 2 || got[0] != fresh || got[1] != old {
		t.Errorf("%v after --use", got)
	}
	if got := done(KeygenOptions{Drop: file}); len(got) != 1 || got[0] != fresh {
		t.Errorf("%v after --drop", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestTLSFilesAreChecked: what cannot work is refused before a node starts, and the flags are named.
func TestTLSFilesAreChecked(t *testing.T) {
	v := newVault(t)
	good := ServeOptions{Region: "beijing", Node: "b1", TLSOptions: v.flags("beijing", "b1")}
	other, off := v.flags("beijing", "b2"), time.Duration(0)
	now := func() time.Time { return time.Now().Add(off) }
	if err := good.checkFiles(now); err != nil {
		t.Fatal(err)
	}
	for says, spoil := range map[string]func(*ServeOptions){
		"that of beijing/b2":       func(o *ServeOptions) { o.TLSOptions = other },
		"no such file":             func(o *ServeOptions) { o.TLSCA += "x" },
		"private key does not":     func(o *ServeOptions) { o.TLSKey = other.TLSKey },
		"--client-tls-cert":        func(o *ServeOptions) { o.ClientTLSCert, o.ClientTLSKey = o.TLSCA, o.TLSKey },
		"has expired":              func(*ServeOptions) { off = 6 * days },
		"given together":           func(o *ServeOptions) { o.TLSCA = "" },
		"--client-tls-key":         func(o *ServeOptions) { o.ClientTLSCert = "x" },
		"--tls-migrate":            func(o *ServeOptions) { o.TLSOptions = TLSOptions{TLSMigrate: true} },
		"clients need a wss:// UR": func(o *ServeOptions) { o.ClientTLSCert, o.ClientTLSKey, o.AdvertiseURL = "x", "y", "ws://a/v1/connect" },
	} {
		o := good
		spoil(&o)
		err := o.checkTLS()
		if err == nil {
			err = o.checkFiles(now)
		}
		if off = 0; err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// TestCertificatesEnd: it is said in time, in the log, in metrics and by roam status.
func TestCertificatesEnd(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	year := certificate{"node", start, start.Add(360 * days)}
	month := certificate{"client", start, start.Add(30 * days)}
	for _, c := range []struct {
		cert certificate
		day  int
		soon bool
	}{{year, 329, false}, {year, 331, true}, {month, 19, false}, {month, 21, true}, {month, 31, true}} {
		if got := c.cert.soon(start.Add(time.Duration(c.day) * days)); got != c.soon {
			t.Errorf("%s on day %d: %v", c.cert.What, c.day, got)
		}
	}
	v := newVault(t)
	var log bytes.Buffer
	off := time.Duration(0)
	reg := prometheus.NewRegistry()
	o := ServeOptions{Region: "beijing", Node: "b1", TLSOptions: v.flags("beijing", "b1"), PeerAddr: "10.0.0.1:7947"}
	s, err := openSecrets(&o, KeyRing{make([]byte, keySize)}, reg, func() time.Time { return time.Now().Add(off) }, newLogger(&log, "info"))
	if err != nil {
		t.Fatal(err)
	}
	s.look()
	if strings.Contains(log.String(), "ends soon") {
		t.Error(log.String())
	}
	off = 4 * days
	s.look()
	s.look()
	if got := strings.Count(log.String(), "a certificate ends soon"); got != 1 {
		t.Errorf("said %d times: %s", got, log.String())
	}
	all, err := reg.Gather()
	if err != nil || !strings.Contains(all[len(all)-1].String()+all[0].String()+all[1].String(), "roam_tls_ends_timestamp_seconds") {
		t.Errorf("%v, %v", all, err)
	}
	var shown strings.Builder
	sec := s.status()
	sec.print(&shown, time.Now().Add(6*days))
	for _, want := range []string{"Between nodes: TLS.", `"node" is valid until`, "IT HAS ENDED", `"ca" is valid until`, "3 days"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("roam status does not say %q: %s", want, shown.String())
		}
	}
}

// TestClearIsSaid: a node whose traffic anybody on the way can read says so, as loud as that is a danger.
func TestClearIsSaid(t *testing.T) {
	for addr, level := range map[string]string{"10.0.0.1:7947": "WARN", "127.0.0.1:7947": "INFO"} {
		var log bytes.Buffer
		if _, err := openSecrets(&ServeOptions{PeerAddr: addr}, nil, prometheus.NewRegistry(), time.Now, newLogger(&log, "info")); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), level) || !strings.Contains(log.String(), "is in the clear") {
			t.Errorf("%s: %s", addr, log.String())
		}
	}
}
