package deploy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// promtool is Prometheus' own checker; make puts it into bin/.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := filepath.Abs("../bin/promtool")
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		if program, err = exec.LookPath("promtool"); err != nil {
			t.Fatal("promtool is missing: run `make bin/promtool`")
		}
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheus(t *testing.T) {
	promtool(t, "check", "config", "prometheus/prometheus.yml")
	promtool(t, "test", "rules", "prometheus/alerts_test.yml")
}

// scrapes is what the rules need of prometheus.yml.
type scrapes struct {
	ScrapeConfigs []struct {
		JobName       string `yaml:"job_name"`
		StaticConfigs []struct {
			Targets []string
			Labels  map[string]string
		} `yaml:"static_configs"`
		DNS []struct {
			Names []string
			Port  int
		} `yaml:"dns_sd_configs"`
	} `yaml:"scrape_configs"`
}

// TestScrapes: Prometheus asks every node and every worker, at its admin port, and calls it what it is.
func TestScrapes(t *testing.T) {
	var cfg scrapes
	unmarshal(t, "prometheus/prometheus.yml", &cfg)
	s := project(t)
	asked := map[string]bool{}
	asks := func(addr, region string) types.ServiceConfig {
		to, port := s.reach(s.Services["prometheus"], addr)
		asked[to.Name] = true
		if port != portOf(to, "ROAM_ADMIN_ADDR") || region != env(to, "ROAM_REGION") {
			s.bad("%s of %q is scraped; %q has its admin address at %s", addr, region, to.Name, env(to, "ROAM_ADMIN_ADDR"))
		}
		return to
	}
	for _, job := range cfg.ScrapeConfigs {
		for _, group := range job.StaticConfigs {
			for _, target := range group.Targets {
				if to := asks(target, group.Labels["roam_region"]); group.Labels["roam_node"] != env(to, "ROAM_NODE") {
					s.bad("%s is called %v", target, group.Labels)
				}
			}
		}
		for _, group := range job.DNS {
			for _, name := range group.Names { // the region is the name's second part, by relabel_configs
				asks(fmt.Sprintf("%s:%d", name, group.Port), strings.TrimPrefix(name, "worker."))
			}
		}
	}
	for _, n := range append(s.running("serve"), s.running("worker")...) {
		if !asked[n.Name] {
			s.bad("%s is not scraped", n.Name)
		}
	}
	s.report(t)
}

type rule struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	unmarshal(t, "prometheus/alerts.yml", &file)
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

// TestAlertsHaveRunbooks: each alert leads to a section of its own, and has a test.
func TestAlertsHaveRunbooks(t *testing.T) {
	operating, tests := read(t, "../docs/operating.md"), read(t, "prometheus/alerts_test.yml")
	known := map[string]bool{}
	for _, a := range alerts(t) {
		known[a.Alert] = true
		if want := "docs/operating.md#" + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("%s links %q, not %q", a.Alert, a.Annotations["runbook_url"], want)
		}
		if !strings.Contains(operating, "\n### "+a.Alert+"\n") {
			t.Errorf("docs/operating.md has no section %q", "### "+a.Alert)
		}
		if !strings.Contains(tests, "alertname: "+a.Alert+"\n") {
			t.Errorf("alerts_test.yml has no case in which %s fires", a.Alert)
		}
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has severity %q", a.Alert, s)
		}
	}
	for _, m := range regexp.MustCompile(`\n### (Roam\w+)\n`).FindAllStringSubmatch(operating, -1) {
		if !known[m[1]] {
			t.Errorf("docs/operating.md explains %s, which is no alert", m[1])
		}
	}
}

var (
	metricName  = regexp.MustCompile(`\broam_[a-z_]+[a-z]\b`)
	exactLabel  = regexp.MustCompile(`(reason|op|code)=~?"([^"]+)"`)
	placeLabels = []string{"roam_region", "roam_node"} // given by prometheus.yml
)

// TestAlertsSpeakOfWhatExists: every metric and every reason in an alert is one that the code has.
func TestAlertsSpeakOfWhatExists(t *testing.T) {
	known := literals(t)
	for _, a := range alerts(t) {
		for _, name := range metricName.FindAllString(a.Expr, -1) {
			if !slices.Contains(placeLabels, name) && !known.metric(name) {
				t.Errorf("%s: no code has a metric %s", a.Alert, name)
			}
		}
		for _, m := range exactLabel.FindAllStringSubmatch(a.Expr, -1) {
			for _, value := range strings.Split(m[2], "|") {
				if _, number := strconv.Atoi(value); !known[value] && number != nil {
					t.Errorf("%s: no code has a %s %q", a.Alert, m[1], value)
				}
			}
		}
	}
	for _, planted := range []string{"roam_region_no_such_total", "roam_region_", "roam_total"} {
		if known.metric(planted) {
			t.Errorf("%s is taken for a metric", planted)
		}
	}
}

// texts are the string literals of the product's code.
type texts map[string]bool

// metric: a name is written out, or put together from a prefix that ends in _ and the rest.
func (l texts) metric(name string) bool {
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		if whole, ok := strings.CutSuffix(name, part); ok && l.metric(whole) {
			return true
		}
	}
	for i := range name {
		if name[i] == '_' && i > len("roam_") && l[name[:i+1]] && l[name[i+1:]] {
			return true
		}
	}
	return l[name] && !strings.HasSuffix(name, "_")
}

func literals(t *testing.T) texts {
	t.Helper()
	all := texts{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "deploy" || d.Name() == ".git" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					all[s] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCollectorTakesItsFile: a collector of the image's version reads the file. `make test` builds it.
func TestCollectorTakesItsFile(t *testing.T) {
	out, err := exec.Command("../bin/collector", "validate", "--config=otel/collector.yaml").CombinedOutput()
	if err != nil {
		t.Errorf("%v (`make collector` builds it)\n%s", err, out)
	}
	version := strings.TrimPrefix(project(t).Services["collector"].Image, "otel/opentelemetry-collector:")
	if mod := read(t, "../tools/collector/go.mod"); !strings.Contains(mod, "/otelcol v"+version+"\n") {
		t.Errorf("the image has version %s, tools/collector another", version)
	}
}

// collector is what the rules need of otel/collector.yaml.
type collector struct {
	Receivers struct {
		OTLP struct {
			Protocols struct{ GRPC struct{ Endpoint string } }
		} `yaml:"otlp"`
	}
	Processors map[string]any
	Exporters  map[string]struct{ Endpoint string }
	Service    struct {
		Pipelines map[string]struct{ Receivers, Processors, Exporters []string }
	}
}

// TestCollector: nodes send traces to where the collector listens, and it hands them to someone who is there.
func TestCollector(t *testing.T) {
	var cfg collector
	unmarshal(t, "otel/collector.yaml", &cfg)
	s := project(t)
	_, port, err := net.SplitHostPort(cfg.Receivers.OTLP.Protocols.GRPC.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range append(s.running("serve"), s.running("worker")...) {
		if to, at := s.reach(n, env(n, "ROAM_OTLP_ENDPOINT")); to.Name != "collector" || at != port {
			s.bad("%s sends traces to %s, the collector listens on %s", n.Name, env(n, "ROAM_OTLP_ENDPOINT"), port)
		}
	}
	traces := cfg.Service.Pipelines["traces"]
	for _, name := range traces.Exporters {
		if to, at := s.reach(s.Services["collector"], cfg.Exporters[name].Endpoint); to.Name != "jaeger" || at != "4317" {
			s.bad("exporter %s sends to %q", name, cfg.Exporters[name].Endpoint)
		}
	}
	for _, name := range traces.Processors {
		if _, ok := cfg.Processors[name]; !ok {
			s.bad("processor %s is not configured", name)
		}
	}
	if fmt.Sprint(traces.Receivers) != "[otlp]" || len(traces.Exporters) == 0 || traces.Processors[0] != "memory_limiter" {
		s.bad("the pipeline of traces is %+v", traces)
	}
	s.report(t)
}

func project(t *testing.T) *site {
	t.Helper()
	p, err := load(read(t, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return &site{Project: p}
}

func (s *site) report(t *testing.T) {
	t.Helper()
	for _, f := range s.found {
		t.Error(f)
	}
}

func unmarshal(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestErrorsExist: every message that docs/operating.md explains is one that the code can say.
func TestErrorsExist(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "../docs/operating.md"), "## What errors mean")
	if !ok {
		t.Fatal("docs/operating.md explains no errors")
	}
	known := literals(t)
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1)
	for _, row := range rows {
		if !known.says(row[1]) {
			t.Errorf("no code says %q", row[1])
		}
	}
	if len(rows) < 10 || known.says("the moon is down … again") {
		t.Errorf("%d messages are explained, or any would do", len(rows))
	}
}

// says looks for a message in one literal; … stands for what is filled in. A literal may go on in the next: the code is
// asked for each part between two fillings.
func (l texts) says(message string) bool {
	for _, part := range strings.Split(message, "…") {
		part = strings.TrimSpace(part)
		found := false
		for text := range l {
			found = found || strings.Contains(text, part)
		}
		if !found {
			return false
		}
	}
	return true
}
