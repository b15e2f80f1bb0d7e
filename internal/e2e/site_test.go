package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// site is one region on this machine: a node, and usually a Redis and a worker of its own.
type site struct {
	region, node, data, secret   string
	client, admin, cluster, peer string
	join                         string
	auth, extra                  []string // flags about tokens; further flags
	workerExtra                  []string
	redisURL                     string
	redis                        *redis
	serve, worker                *process
	delay                        time.Duration // between the echo worker's words
	mu                           sync.Mutex
	all                          []*process // all that ever ran here
}

// newSite picks addresses and starts nothing.
func newSite(region, dir, secret string) *site {
	port := freePort()
	return &site{
		region: region, node: region[:1] + "1", auth: []string{"--auth", "dev"}, data: filepath.Join(dir, region), secret: secret,
		client: freeAddr(), admin: freeAddr(), cluster: freeAddr(), peer: freeAddr(),
		redisURL: "redis://127.0.0.1:" + port, redis: &redis{port: port}, delay: 20 * time.Millisecond,
	}
}

// sites returns regions that know each other's addresses: each is told to join the ones before it.
func sites(t *testing.T, regions ...string) []*site {
	t.Helper()
	dir := t.TempDir()
	list, err := makeSites(dir, regions...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endSites(t, list) })
	return list
}

func makeSites(dir string, regions ...string) ([]*site, error) {
	secret := filepath.Join(dir, "secret")
	if err := keygen(secret); err != nil {
		return nil, err
	}
	var list []*site
	for _, r := range regions {
		s := newSite(r, dir, secret)
		for _, before := range list {
			if s.join != "" {
				s.join += ","
			}
			s.join += before.cluster
		}
		list = append(list, s)
	}
	return list, nil
}

// endSites ends all processes and checks what they said.
func endSites(t *testing.T, list []*site) {
	for _, s := range list {
		for _, p := range s.processes() {
			p.kill()
			if err := p.faults(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("%s said:\n%s", p.name, p.errout.tail())
			}
		}
	}
}

func keygen(file string) error {
	p, err := start("keygen", nil, binary, "keygen")
	if err != nil {
		return err
	}
	if code, err := p.exit(patience); err != nil || code != 0 {
		return fmt.Errorf("roam keygen: status %d, %w: %s", code, err, p.errout.tail())
	}
	return os.WriteFile(file, []byte(p.out.all()), 0o600)
}

// args is serve's command line.
func (s *site) args() []string {
	args := []string{"serve", "--region", s.region, "--node", s.node, "--data", s.data,
		"--client-addr", s.client, "--admin-addr", s.admin, "--cluster-addr", s.cluster, "--peer-addr", s.peer,
		"--redis", s.redisURL}
	if s.secret != "" {
		args = append(args, "--secret-file", s.secret)
	}
	if s.join != "" {
		args = append(args, "--join", s.join)
	}
	return append(append(args, s.auth...), s.extra...)
}

// run starts a program and remembers it, to be ended with the site.
func (s *site) run(what string, env []string, program string, args ...string) (*process, error) {
	p, err := start(what+" "+s.region, env, program, args...)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p)
	return p, nil
}

func (s *site) processes() []*process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*process(nil), s.all...)
}

// startServe starts the node; ready waits until it takes clients.
func (s *site) startServe() error {
	p, err := s.run("serve", nil, binary, s.args()...)
	s.serve = p
	return err
}

func (s *site) ready() error {
	_, err := s.serve.says("ready region=" + s.region + " node=" + s.node + " client=" + s.client)
	return err
}

func (s *site) startRedis() error {
	r, err := startRedis(s.redis.port)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.redis, s.all = r, append(s.all, r.process)
	return nil
}

func (s *site) startWorker() error {
	args := []string{"worker", "--redis", s.redisURL, "--region", s.region, "--token-delay", s.delay.String()}
	p, err := s.run("worker", nil, binary, append(args, s.workerExtra...)...)
	s.worker = p
	return err
}

// start starts all of the site and waits until it works.
func (s *site) start() error {
	for _, step := range []func() error{s.startRedis, s.startServe, s.startWorker, s.ready} {
		if err := step(); err != nil {
			return err
		}
	}
	_, err := s.worker.says("ready worker region=" + s.region)
	return err
}

// startAll starts sites at the same time and waits until they have met.
func startAll(list []*site) error {
	if err := startEach(list); err != nil {
		return err
	}
	for _, s := range list {
		for _, other := range list {
			if err := s.meets(other); err != nil {
				return err
			}
		}
	}
	return nil
}

// meets waits until a region tells its clients that another one is up.
func (s *site) meets(other *site) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		d := newDevice("probe", "probe")
		err := d.connect(s)
		d.drop()
		if err != nil {
			return err
		}
		var regions []struct{ Name, State string }
		if err := json.Unmarshal(d.welcome.Regions, &regions); err != nil {
			return err
		}
		for _, r := range regions {
			if r.Name == other.region && r.State == "up" {
				return nil
			}
		}
	}
	return fmt.Errorf("%s has not met %s after %v", s.region, other.region, patience)
}

func startEach(list []*site) error {
	errs := make(chan error)
	for _, s := range list {
		go func() { errs <- s.start() }()
	}
	var first error
	for range list {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}

// crash kills the node; restart brings it back with the same data and addresses.
func (s *site) crash() { s.serve.kill() }

func (s *site) restart() error {
	if err := s.startServe(); err != nil {
		return err
	}
	return s.ready()
}

// freeze stops the node without ending it, thaw lets it go on.
func (s *site) freeze() { s.serve.signal(syscall.SIGSTOP) }
func (s *site) thaw()   { s.serve.signal(syscall.SIGCONT) }

// embedded makes the site run alone: its Redis and its worker are inside its process.
func (s *site) embedded() *site {
	s.redisURL = "embedded"
	s.extra = append(s.extra, "--worker", "echo")
	return s
}

// shared are two regions that tests use together which break nothing.
var shared struct {
	once  sync.Once
	sites []*site
	err   error
}

func sharedSites(t *testing.T) (beijing, shanghai *site) {
	t.Helper()
	shared.once.Do(func() {
		dir := filepath.Join(filepath.Dir(binary), "shared")
		if shared.err = os.MkdirAll(dir, 0o755); shared.err != nil {
			return
		}
		if shared.sites, shared.err = makeSites(dir, "beijing", "shanghai"); shared.err == nil {
			shared.err = startAll(shared.sites)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		for _, s := range shared.sites {
			for _, p := range s.processes() {
				if err := p.faults(); err != nil {
					t.Error(err)
				}
				if t.Failed() {
					t.Logf("%s said:\n%s", p.name, p.errout.tail())
				}
			}
		}
	})
	return shared.sites[0], shared.sites[1]
}

// unique makes a session's name new, so that a test can run again on the shared regions (-count).
func unique(session string) string { return fmt.Sprintf("%s-%d", session, sessions.Add(1)) }

var sessions atomic.Int64

func endShared() {
	for _, s := range shared.sites {
		for _, p := range s.processes() {
			p.kill()
		}
	}
}
