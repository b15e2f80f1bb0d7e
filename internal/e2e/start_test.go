package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRefusesToStart: what cannot work ends at once with an error that names the flag.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("not a key\n"), 0o600))
	held := holdPort(t)
	running := sites(t, "wuhan")[0].embedded()
	must(t, running.startServe())
	must(t, running.ready())
	cases := []struct {
		name string
		set  func(*site)
		says string
	}{
		{"no secret", func(s *site) { s.secret = "" }, "--secret-file"},
		{"no secret file", func(s *site) { s.secret = filepath.Join(dir, "none") }, "--secret-file"},
		{"secret is no key", func(s *site) { s.secret = file }, "--secret-file"},
		{"unknown flag", func(s *site) { s.extra = append(s.extra, "--colour", "red") }, "--colour"},
		{"bad region", func(s *site) { s.region = "Bei Jing" }, "--region"},
		{"no region", func(s *site) { s.region = "" }, "--region"},
		{"bad node", func(s *site) { s.node = "b/1" }, "--node"},
		{"data under a file", func(s *site) { s.data = filepath.Join(file, "data") }, "--data"},
		{"data is a file", func(s *site) { s.data = file }, "--data"},
		{"data where nothing can be written", func(s *site) { s.data = "/proc/roam" }, "--data"},
		{"data of a running node", func(s *site) { s.data = running.data }, "--data"},
		{"client port taken", func(s *site) { s.client = held }, "--client-addr"},
		{"admin port taken", func(s *site) { s.admin = held }, "--admin-addr"},
		{"cluster port taken", func(s *site) { s.cluster = held }, "--cluster-addr"},
		{"peer port taken", func(s *site) { s.peer = held }, "--peer-addr"},
		{"address without port", func(s *site) { s.peer = "127.0.0.1" }, "--peer-addr"},
		{"join without port", func(s *site) { s.join = "nowhere" }, "--join"},
		{"redis is no URL", func(s *site) { s.redisURL = "localhost" }, "--redis"},
		{"no auth", func(s *site) { s.auth = nil }, "--auth"},
		{"dev auth for everyone", func(s *site) { s.client = "0.0.0.0:0" }, "--auth"},
		{"no key of tokens", func(s *site) { s.auth = []string{"--auth-hs256-file", filepath.Join(dir, "none")} }, "--auth-hs256-file"},
		{"no config file", func(s *site) { s.extra = append(s.extra, "--config", filepath.Join(dir, "none")) }, "none"},
		{"config with an unknown key", func(s *site) { s.extra = append(s.extra, "--config", config(t, "colour: red\n")) }, "colour"},
		{"config that is no YAML", func(s *site) { s.extra = append(s.extra, "--config", config(t, "\t: [\n")) }, "--config"},
	}
	for _, c := range cases {
		s := sites(t, "beijing")[0]
		c.set(s)
		must(t, s.startServe())
		code, err := s.serve.exit(patience)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			s.serve.kill()
			continue
		}
		if said := s.serve.errout.all(); code == 0 || !strings.Contains(said, c.says) {
			t.Errorf("%s: status %d, and %q is not in:\n%s", c.name, code, c.says, said)
		}
	}
	d := user(t, "anna", "phone")
	must(t, d.connect(running))
	must(t, d.put("anna/x", msg("m1", "the running node is not disturbed")))
}

// holdPort takes a port, for TCP and for UDP.
func holdPort(t *testing.T) string {
	t.Helper()
	addr := freeAddr()
	l, err := net.Listen("tcp", addr)
	must(t, err)
	u, err := net.ListenPacket("udp", addr)
	must(t, err)
	t.Cleanup(func() { l.Close(); u.Close() })
	return addr
}

// config writes a config file.
func config(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "roam.yaml")
	must(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

// TestClusterPortTakenForUDP: gossip needs both.
func TestClusterPortTakenForUDP(t *testing.T) {
	t.Parallel()
	s := sites(t, "beijing")[0].embedded()
	u, err := net.ListenPacket("udp", s.cluster)
	must(t, err)
	defer u.Close()
	must(t, s.startServe())
	code, err := s.serve.exit(patience)
	must(t, err)
	if said := s.serve.errout.all(); code == 0 || !strings.Contains(said, "--cluster-addr") {
		t.Errorf("status %d, and --cluster-addr is not in:\n%s", code, said)
	}
}

// anySays waits until one of the processes says all the words.
func anySays(t *testing.T, words string, list ...*process) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		for _, p := range list {
			if _, ok := p.said(words); ok {
				return
			}
		}
	}
	for _, p := range list {
		t.Logf("%s said:\n%s", p.name, p.errout.tail())
	}
	t.Errorf("nobody said %q", words)
}

// TestDifferentSecrets: the regions do not join, and at least one of them says why.
func TestDifferentSecrets(t *testing.T) {
	t.Parallel()
	list := sites(t, "beijing", "shanghai")
	beijing, shanghai := list[0].embedded(), list[1].embedded()
	shanghai.secret = filepath.Join(t.TempDir(), "other")
	must(t, keygen(shanghai.secret))
	must(t, beijing.startServe())
	must(t, beijing.ready())
	must(t, shanghai.startServe())
	anySays(t, "--secret-file", beijing.serve, shanghai.serve)
	d := user(t, "anna", "phone")
	must(t, d.connect(beijing))
	must(t, d.put("anna/x", msg("m1", "the first region goes on")))
	if _, met := d.met(t, beijing, "shanghai"); met {
		t.Error("regions with different secrets know each other")
	}
}

// met connects again and says whether a region is in the welcome.
func (d *device) met(t *testing.T, s *site, region string) (string, bool) {
	t.Helper()
	d.drop()
	must(t, d.connect(s))
	list := string(d.welcome.Regions)
	return list, strings.Contains(list, `"`+region+`"`)
}

// TestTwoNodesOfOneName: the second is told, and the first goes on.
func TestTwoNodesOfOneName(t *testing.T) {
	t.Parallel()
	list := sites(t, "beijing", "beijing2")
	first, second := list[0].embedded(), list[1].embedded()
	second.region, second.node = first.region, first.node
	must(t, first.startServe())
	must(t, first.ready())
	must(t, second.startServe())
	anySays(t, "--node", first.serve, second.serve)
	d := user(t, "anna", "phone")
	must(t, d.connect(first))
	must(t, d.put("anna/x", msg("m1", "the first node goes on")))
}

// TestPrecedence: flags win over the environment, the environment over the file.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	base := sites(t, "wuhan")[0].embedded()
	file := config(t, "region: from-file\nnode: f1\nauth: dev\nredis: embedded\nsecret-file: "+base.secret+
		"\ndata: "+base.data+"\nclient-addr: "+base.client+"\nadmin-addr: "+base.admin+
		"\ncluster-addr: "+base.cluster+"\npeer-addr: "+base.peer+"\n")
	cases := []struct {
		env, args []string
		says      string
	}{
		{nil, nil, "ready region=from-file node=f1 client=" + base.client},
		{[]string{"ROAM_NODE=e1"}, nil, "ready region=from-file node=e1"},
		{[]string{"ROAM_NODE=e1"}, []string{"--node", "a1"}, "ready region=from-file node=a1"},
		{nil, []string{"--node", "a1"}, "ready region=from-file node=a1"},
	}
	for _, c := range cases {
		must(t, os.RemoveAll(base.data)) // a data directory is one node's
		p, err := base.run("serve", c.env, binary, append([]string{"serve", "--config", file}, c.args...)...)
		must(t, err)
		if _, err := p.says(c.says); err != nil {
			t.Error(err)
		}
		p.kill()
	}
	env := []string{"ROAM_REGION=from-env", "ROAM_NODE=e1", "ROAM_DATA=" + base.data, "ROAM_AUTH=dev", "ROAM_REDIS=embedded",
		"ROAM_SECRET_FILE=" + base.secret, "ROAM_CLIENT_ADDR=" + base.client, "ROAM_ADMIN_ADDR=" + base.admin,
		"ROAM_CLUSTER_ADDR=" + base.cluster, "ROAM_PEER_ADDR=" + base.peer}
	must(t, os.RemoveAll(base.data))
	p, err := base.run("serve", env, binary, "serve")
	must(t, err)
	if _, err := p.says("ready region=from-env node=e1"); err != nil {
		t.Error(err)
	}
	p.kill()
}

// TestAlone: one binary with nothing beside it answers.
func TestAlone(t *testing.T) {
	t.Parallel()
	const session = "anna/alone"
	s := sites(t, "wuhan")[0].embedded()
	must(t, s.startServe())
	must(t, s.ready())
	d := user(t, "anna", "phone")
	must(t, d.connect(s, session))
	must(t, d.put(session, ask("q", words(20))))
	must(t, d.finished(session, "q"))
	wants(t, d.view(session), "q", words(20))
	s.crash()
	d.drop()
	must(t, s.restart())
	must(t, d.connect(s, session))
	sameEverywhere(t, d, session, s)
}

// TestWorkerRefuses: a worker that cannot work says why.
func TestWorkerRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct {
		args []string
		says string
	}{
		{[]string{"--region", "beijing", "--redis", "localhost"}, "--redis"},
		{[]string{"--redis", "redis://127.0.0.1:1"}, "--region"},
		{[]string{"--region", "beijing", "--llm", "nobody"}, "--llm"},
		{[]string{"--region", "beijing", "--concurrency", "0"}, "--concurrency"},
	}
	s := sites(t, "beijing")[0]
	for _, c := range cases {
		p, err := s.run("worker", nil, binary, append([]string{"worker"}, c.args...)...)
		must(t, err)
		code, err := p.exit(patience)
		must(t, err)
		if said := p.errout.all(); code == 0 || !strings.Contains(said, c.says) {
			t.Errorf("%q: status %d, and %q is not in:\n%s", c.args, code, c.says, said)
		}
	}
}
