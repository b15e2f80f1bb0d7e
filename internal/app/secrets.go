package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/internal/certs"
	"github.com/roamsync/roam/internal/reload"
)

const (
	// lookEvery is how often a node looks whether its keys or certificates have changed; they are taken at the second look.
	lookEvery = time.Second
	// warnEvery is how often it says that a certificate ends soon.
	warnEvery = 24 * time.Hour
	// warnBefore is how long before its end it begins to; a certificate of less than three times that, in its last third.
	warnBefore = 30 * 24 * time.Hour
)

// secrets are the files that an operator may exchange while a node runs: the key ring, and certificates.
type secrets struct {
	log     *slog.Logger
	now     func() time.Time
	peers   *certs.Peers   // nil: nodes speak in the clear
	clients *certs.Clients // nil: so do clients
	files   []secretFiles
	reloads *prometheus.CounterVec
	rekey   func(KeyRing) error     // has the parts of the node go on with another ring; nil until there are any, set before run
	ring    atomic.Pointer[KeyRing] // in use
	warned  time.Time               // owned by run
}

// secretFiles are files that belong together, and what they are called.
type secretFiles struct {
	*reload.Files
	what string
}

// openSecrets reads what the options name. The ring is what --secret-file was at the start.
func openSecrets(o *ServeOptions, ring KeyRing, reg *prometheus.Registry, now func() time.Time, log *slog.Logger) (*secrets, error) {
	s := &secrets{
		log: log, now: now,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_files_reloaded_total", Help: "Changes of keys and certificates while the node ran, by file and result.",
		}, []string{"file", "result"}),
	}
	s.ring.Store(&ring)
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roam_tls_refused_total", Help: "Nodes that were refused at, or before, the TLS handshake, by reason.",
	}, []string{"reason"})
	reg.MustRegister(s.reloads, refused, ends{s})
	if o.SecretFile != "" {
		s.watch("secret", reload.New(s.takeRing, o.SecretFile))
	}
	if o.forPeers() {
		for _, reason := range certs.Reasons {
			refused.WithLabelValues(reason)
		}
		s.peers = certs.NewPeers(certs.Config{Name: certs.Name(o.Region, o.Node), Now: now, Logger: log, Refused: refused, Migrate: o.TLSMigrate})
		s.watch("tls", o.peerFiles(s.peers))
	}
	if o.forClients() {
		s.clients = certs.NewClients(now)
		s.watch("client-tls", o.clientFiles(s.clients))
	}
	for _, f := range s.files {
		if err := f.Load(); err != nil {
			return nil, fmt.Errorf("%s: %w", fileFlags[f.what], err)
		}
	}
	s.sayClear(o)
	return s, nil
}

// fileFlags are the flags that name files.
var fileFlags = map[string]string{
	"secret": "--secret-file", "tls": "--tls-ca, --tls-cert, --tls-key", "client-tls": "--client-tls-cert, --client-tls-key",
}

func (s *secrets) watch(what string, f *reload.Files) {
	for _, result := range []string{"taken", "refused"} {
		s.reloads.WithLabelValues(what, result)
	}
	s.files = append(s.files, secretFiles{f, what})
}

// sayClear says what anybody on the way could read.
func (s *secrets) sayClear(o *ServeOptions) {
	if o.TLSMigrate {
		s.log.Warn("nodes without a certificate are let in, in the clear: take --tls-migrate away when all have one")
	}
	if s.peers != nil {
		return
	}
	level := slog.LevelWarn
	if loopback(o.PeerAddr) {
		level = slog.LevelInfo
	}
	s.log.Log(context.Background(), level, "traffic between nodes at --peer-addr is in the clear: give --tls-ca, --tls-cert and --tls-key, or keep it in a private network")
}

// takeRing goes on with another ring, which at the start is the first. It has to share a key with the one before, or no other node would be understood.
func (s *secrets) takeRing(contents [][]byte) error {
	ring, err := parseKeyRing(contents[0])
	if err != nil {
		return err
	}
	if s.rekey == nil {
		s.ring.Store(&ring)
		return nil
	}
	used := s.ring.Load().ids()
	if !slices.ContainsFunc(ring.ids(), func(id string) bool { return slices.Contains(used, id) }) {
		return errors.New("none of its keys is one of those in use: a key is added first, used next, and the old one removed last (roam keygen --add)")
	}
	if err := s.rekey(ring); err != nil {
		return err
	}
	s.ring.Store(&ring)
	return nil
}

// dial is how the node reaches others, of which membership knows names by address.
func (s *secrets) dial(dial func(context.Context, string) (net.Conn, error), known func(addr string) []string) func(context.Context, string) (net.Conn, error) {
	if s.peers == nil {
		return dial
	}
	return s.peers.Dialer(dial, known)
}

// listener is what clients connect to.
func (s *secrets) listener(ln net.Listener) net.Listener {
	if s.clients == nil {
		return ln
	}
	return s.clients.Listener(ln)
}

// server serves them. What strangers get wrong about TLS is their business.
func (s *secrets) server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
}

// run looks at the files until ctx ends.
func (s *secrets) run(ctx context.Context) error {
	if len(s.files) == 0 {
		return nil
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		s.look()
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

func (s *secrets) look() {
	for _, f := range s.files {
		tried, err := f.Look()
		switch {
		case err != nil:
			s.reloads.WithLabelValues(f.what, "refused").Inc()
			s.log.Error("a file has changed and is of no use; what was there before stays in use", "flags", fileFlags[f.what], "err", err)
		case tried:
			s.reloads.WithLabelValues(f.what, "taken").Inc()
			s.log.Info("a file has changed and is in use", "flags", fileFlags[f.what], "keys", s.ring.Load().ids())
		}
	}
	now := s.now()
	if now.Sub(s.warned) < warnEvery {
		return
	}
	for _, c := range s.certificates() {
		if c.soon(now) {
			s.warned = now
			s.log.Warn("a certificate ends soon", "certificate", c.What, "until", c.Until.UTC().Format(time.RFC3339), "left", c.Until.Sub(now).Round(time.Minute))
		}
	}
}
