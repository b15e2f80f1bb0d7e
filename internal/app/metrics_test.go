package app

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var fqName = regexp.MustCompile(`fqName: "(roam_[a-z_]+)"`)

// registered lists the names of our metrics in a registry, those that show nothing yet included.
func registered(reg *prometheus.Registry) (names []string) {
	to := make(chan *prometheus.Desc)
	go func() {
		reg.Describe(to)
		close(to)
	}()
	for d := range to {
		if m := fqName.FindStringSubmatch(d.String()); m != nil && !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

// TestMetricsAreDocumented: every metric has its line in docs/metrics.md, and none is there that does not exist.
func TestMetricsAreDocumented(t *testing.T) {
	w := newWorld(t, "beijing")
	names := registered(w.nodes["beijing"].reg) // its worker's included
	if len(names) < 30 {
		t.Fatalf("only %v are registered", names)
	}
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if m := regexp.MustCompile("^\\| `(roam_[a-z_]+)`").FindStringSubmatch(line); m != nil {
			listed[m[1]] = true
		}
	}
	for _, n := range names {
		if !listed[n] {
			t.Errorf("%s has no line in docs/metrics.md", n)
		}
		delete(listed, n)
	}
	for n := range listed {
		t.Errorf("docs/metrics.md has a line for %s, which no node shows", n)
	}
}
