package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// everywhere makes a site listen on all addresses, as in a container, and be found by a name.
func everywhere(t *testing.T, key string, list ...*site) {
	t.Helper()
	var join []string
	port := func(addr string) string {
		_, p, err := net.SplitHostPort(addr)
		must(t, err)
		return p
	}
	for _, s := range list {
		join = append(join, "localhost:"+port(s.cluster))
	}
	for _, s := range list {
		s.cluster, s.peer = "0.0.0.0:"+port(s.cluster), "[::]:"+port(s.peer)
		s.client = "[::]:" + port(s.client)
		s.extra = append(s.extra, "--advertise-host", "localhost", "--advertise-url", "ws://localhost:"+port(s.client)+"/v1/connect")
		s.auth = []string{"--auth-hs256-file", key}
		s.join = strings.Join(join, ",") // its own address too: everyone is given the same list
	}
}

func said(t *testing.T, s *site, args ...string) (string, int) {
	t.Helper()
	p, err := s.run(args[0], nil, binary, args...)
	must(t, err)
	code, err := p.exit(patience)
	must(t, err)
	return strings.TrimSpace(p.out.all()), code
}

// TestListensEverywhere: nodes that bind 0.0.0.0 and [::] find each other by --advertise-host, one --join list serves
// all, and a client comes in with a token of `roam token`.
func TestListensEverywhere(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "hs256")
	must(t, os.WriteFile(key, []byte("a key that is long enough for HS256"), 0o600))
	list := sites(t, "beijing", "shanghai")
	a, b := list[0], list[1]
	everywhere(t, key, list...)
	for _, s := range list {
		s.embedded()
	}
	if _, code := said(t, a, "health", "--admin", a.admin); code != 1 {
		t.Errorf("the health of a node that does not run: status %d", code)
	}
	for _, s := range list {
		must(t, s.startServe())
	}
	for _, s := range list {
		must(t, s.ready())
	}
	if words, code := said(t, a, "health", "--admin", a.admin); code != 0 || words != "ready" {
		t.Errorf("the health of a node that runs: status %d, %q", code, words)
	}
	token, _ := said(t, a, "token", "--hs256-file", key, "--user", "anna", "--ttl", "1h")
	at := func(s *site) *device {
		d := user(t, "anna", "phone-"+s.region)
		d.token = token
		must(t, d.connect(s, "anna/trip"))
		return d
	}
	d := at(a)
	must(t, d.put("anna/trip", msg("m1", "from everywhere")))
	must(t, d.until("m1 is in Shanghai", func() bool { return d.safe["m1"] }))
	agree(t, "anna/trip", func(v *view) bool { return len(v.String()) > 0 }, d, at(b))
	if regions := string(d.welcome.Regions); !strings.Contains(regions, "ws://localhost:") || strings.Contains(regions, "::") {
		t.Errorf("clients are told of %s", regions)
	}
}
