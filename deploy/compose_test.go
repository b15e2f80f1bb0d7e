package deploy

import (
	"context"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const ours = "roam:local"

// load reads compose text as docker compose does, strictly, with all profiles.
func load(text string) (*types.Project, error) {
	return loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  ".",
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: []byte(text)}},
	}, func(o *loader.Options) {
		o.SetProjectName("roam", true)
		o.Profiles = []string{"*"}
		o.ResolvePaths = false
	})
}

// site is a compose project as the rules look at it.
type site struct {
	*types.Project
	end   time.Duration // how long a node may take to stop
	found []string
}

func (s *site) bad(format string, args ...any) {
	s.found = append(s.found, fmt.Sprintf(format, args...))
}

func env(svc types.ServiceConfig, name string) string {
	if v := svc.Environment[name]; v != nil {
		return *v
	}
	return ""
}

func words(svc types.ServiceConfig) []string {
	if len(svc.Entrypoint) > 1 {
		return append(slices.Clone(svc.Entrypoint[1:]), svc.Command...)
	}
	return svc.Command
}

// running returns the services that run a command of roam, by name.
func (s *site) running(command string) []types.ServiceConfig {
	var all []types.ServiceConfig
	for _, name := range s.ServiceNames() {
		if svc := s.Services[name]; svc.Image == ours && len(words(svc)) > 0 && words(svc)[0] == command {
			all = append(all, svc)
		}
	}
	return all
}

// reach finds who answers at host:port when from asks: it must be on one of from's networks, under that name.
func (s *site) reach(from types.ServiceConfig, addr string) (to types.ServiceConfig, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		s.bad("%s: %q is no address", from.Name, addr)
		return to, ""
	}
	for _, name := range s.ServiceNames() {
		svc := s.Services[name]
		for network, at := range svc.Networks {
			_, shared := from.Networks[network]
			if shared && (name == host || at != nil && slices.Contains(at.Aliases, host)) {
				return svc, port
			}
		}
	}
	s.bad("%s cannot reach %s: no service has that name on a network of its own", from.Name, addr)
	return to, ""
}

func portOf(svc types.ServiceConfig, name string) string {
	_, port, _ := net.SplitHostPort(env(svc, name))
	return port
}

// rules of compose.yaml, each of which is broken on purpose in TestComposeRulesFind.
var rules = []func(*site){
	(*site).flags, (*site).joins, (*site).regions, (*site).redis, (*site).clients, (*site).ends, (*site).confined, (*site).images,
}

func check(t *testing.T, text string) []string {
	t.Helper()
	p, err := load(text)
	if err != nil {
		return []string{err.Error()}
	}
	s := &site{Project: p, end: drainBound(t) + slack}
	for _, rule := range rules {
		rule(s)
	}
	return s.found
}

func TestCompose(t *testing.T) {
	for _, f := range check(t, read(t, "compose.yaml")) {
		t.Error(f)
	}
}

var variable = regexp.MustCompile(`\$(ROAM_\w+)`)

// flags: each service's words and environment are what the program takes, files and all.
func (s *site) flags() {
	for _, name := range s.ServiceNames() {
		svc := s.Services[name]
		if svc.Image != ours {
			continue
		}
		help, err := call(nil, words(svc)[0], "--help")
		if err != nil {
			s.bad("%s: roam %s: %v: %s", name, words(svc)[0], err, help)
		}
		var vars []string
		for k, v := range svc.Environment {
			if !slices.ContainsFunc(variable.FindAllStringSubmatch(help, -1), func(m []string) bool { return m[1] == k }) {
				s.bad("%s: roam %s knows no %s", name, words(svc)[0], k)
			}
			vars = append(vars, k+"="+s.mounted(svc, *v))
		}
		s.tries(svc, vars)
	}
}

// mounted puts the keys that keys.sh made where a secret would be.
func (s *site) mounted(svc types.ServiceConfig, value string) string {
	file, ok := strings.CutPrefix(value, "/run/secrets/")
	if !ok {
		return value
	}
	if !slices.ContainsFunc(svc.Secrets, func(c types.ServiceSecretConfig) bool { return c.Source == file }) {
		s.bad("%s: %s is not among its secrets", svc.Name, value)
	}
	return path.Join(keys, path.Base(s.Secrets[file].File))
}

// tries lets the program look at what a service gives it. Tools are run; what would serve is only checked.
func (s *site) tries(svc types.ServiceConfig, vars []string) {
	args := words(svc)
	switch args[0] {
	case "serve", "worker":
		args = append(slices.Clone(args), "--check")
	case "token":
		args = append(slices.Clone(args), "--user", "anna")
	}
	if out, err := call(vars, args...); err != nil {
		s.bad("%s: roam %s: %v: %s", svc.Name, strings.Join(args, " "), err, out)
	}
}

// joins: every node has the same list, it holds every node, and each entry leads to that node's membership port.
func (s *site) joins() {
	nodes := s.running("serve")
	for _, n := range nodes {
		list := strings.Split(env(n, "ROAM_JOIN"), ",")
		var met []string
		for _, addr := range list {
			to, port := s.reach(n, addr)
			if port != "" && port != portOf(to, "ROAM_CLUSTER_ADDR") {
				s.bad("%s joins %s, but %s gossips at %s", n.Name, addr, to.Name, env(to, "ROAM_CLUSTER_ADDR"))
			}
			met = append(met, to.Name)
		}
		for _, other := range nodes {
			if !slices.Contains(met, other.Name) {
				s.bad("%s does not join %s", n.Name, other.Name)
			}
			if to, _ := s.reach(other, net.JoinHostPort(env(n, "ROAM_ADVERTISE_HOST"), portOf(n, "ROAM_PEER_ADDR"))); to.Name != n.Name {
				s.bad("%s advertises %s, where %s finds %q", n.Name, env(n, "ROAM_ADVERTISE_HOST"), other.Name, to.Name)
			}
		}
	}
}

// regions: as many nodes as the region is founded with, each with a name and a volume of its own.
func (s *site) regions() {
	count, seen := map[string]int{}, map[string]string{}
	once := func(what, who string) {
		if seen[what] != "" {
			s.bad("%s and %s have the same %s", seen[what], who, what)
		}
		seen[what] = who
	}
	for _, n := range s.running("serve") {
		count[env(n, "ROAM_REGION")]++
		once("node "+env(n, "ROAM_REGION")+"/"+env(n, "ROAM_NODE"), n.Name)
		data := ""
		for _, v := range n.Volumes {
			if v.Target == env(n, "ROAM_DATA") && v.Type == types.VolumeTypeVolume {
				data = v.Source
			}
		}
		if _, ok := s.Volumes[data]; !ok {
			s.bad("%s keeps %s in no named volume", n.Name, env(n, "ROAM_DATA"))
		}
		once("volume "+data, n.Name)
	}
	for _, n := range s.running("serve") {
		if want := fmt.Sprint(count[env(n, "ROAM_REGION")]); env(n, "ROAM_BOOTSTRAP_EXPECT") != want {
			s.bad("%s expects %s nodes, its region has %s", n.Name, env(n, "ROAM_BOOTSTRAP_EXPECT"), want)
		}
	}
	if len(count) < 2 {
		s.bad("%d regions", len(count))
	}
}

// redis: one per region, for its nodes and its workers, and no other region can reach it.
func (s *site) redis() {
	used := map[string]string{} // region -> service
	workers := map[string]int{}
	for _, svc := range append(s.running("serve"), s.running("worker")...) {
		region := env(svc, "ROAM_REGION")
		to, port := s.reach(svc, strings.TrimPrefix(env(svc, "ROAM_REDIS"), "redis://"))
		if !strings.HasPrefix(to.Image, "redis:") || port != "6379" {
			s.bad("%s has its Redis at %s, which is %q", svc.Name, env(svc, "ROAM_REDIS"), to.Name)
		}
		if used[region] != "" && used[region] != to.Name {
			s.bad("region %s uses %s and %s", region, used[region], to.Name)
		}
		used[region] = to.Name
		if words(svc)[0] == "worker" {
			workers[region]++
		}
	}
	for region, r := range used {
		for _, svc := range s.running("serve") {
			for network := range s.Services[r].Networks {
				if _, shared := svc.Networks[network]; shared && env(svc, "ROAM_REGION") != region {
					s.bad("%s can reach %s, which is %s's", svc.Name, r, region)
				}
			}
		}
		if workers[region] == 0 {
			s.bad("region %s has no workers", region)
		}
	}
}

// clients: what a node says of itself is what is published, on this machine only, and nothing else of it is.
func (s *site) clients() {
	taken := map[string]string{}
	for _, name := range s.ServiceNames() {
		svc := s.Services[name]
		for _, p := range svc.Ports {
			if p.HostIP != "127.0.0.1" {
				s.bad("%s publishes %s to the world", name, p.Published)
			}
			if taken[p.Published] != "" {
				s.bad("%s and %s publish %s", taken[p.Published], name, p.Published)
			}
			taken[p.Published] = name
		}
	}
	for _, n := range s.running("serve") {
		if len(n.Ports) != 1 || fmt.Sprint(n.Ports[0].Target) != portOf(n, "ROAM_CLIENT_ADDR") {
			s.bad("%s publishes %v: its client port, and no other, is for outside", n.Name, n.Ports)
			continue
		}
		if want := "ws://127.0.0.1:" + n.Ports[0].Published + "/v1/connect"; env(n, "ROAM_ADVERTISE_URL") != want {
			s.bad("%s sends clients to %s, and is published at %s", n.Name, env(n, "ROAM_ADVERTISE_URL"), want)
		}
	}
}

// ends: what is stopped gets the time to drain, and what ends by itself comes back.
func (s *site) ends() {
	for _, svc := range append(s.running("serve"), s.running("worker")...) {
		if svc.StopGracePeriod == nil || time.Duration(*svc.StopGracePeriod) < s.end {
			s.bad("%s is killed before %s, which its end may take", svc.Name, s.end)
		}
		if svc.Restart != "unless-stopped" {
			s.bad("%s stays down", svc.Name)
		}
		if svc.HealthCheck != nil && svc.HealthCheck.Disable {
			s.bad("%s is not asked for its health", svc.Name)
		}
	}
}

// confined: nothing has rights that it does not need.
func (s *site) confined() {
	for _, name := range s.ServiceNames() {
		svc := s.Services[name]
		if !svc.ReadOnly || !slices.Equal(svc.CapDrop, []string{"ALL"}) || svc.Privileged || svc.NetworkMode == "host" ||
			!slices.Contains(svc.SecurityOpt, "no-new-privileges:true") {
			s.bad("%s is not confined", name)
		}
		if svc.User == "root" || strings.HasPrefix(svc.User, "0") {
			s.bad("%s runs as root", name)
		}
	}
}

var tagged = regexp.MustCompile(`^[a-z0-9./-]+:v?\d[\w.-]*$`)

// images: a version is named, so that the same file gives the same site next year.
func (s *site) images() {
	for _, name := range s.ServiceNames() {
		if image := s.Services[name].Image; image != ours && !tagged.MatchString(image) {
			s.bad("%s runs %s: name a version", name, image)
		}
	}
}
