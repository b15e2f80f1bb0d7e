package e2e

import (
	"strings"
	"testing"
)

// TestDemo is what `DEMO_ONCE=1 make demo` runs: its status is 0 only if its own checker found nothing.
func TestDemo(t *testing.T) {
	t.Parallel()
	s := sites(t, "demo")[0]
	p, err := s.run("dev", nil, binary, "dev", "--demo", "--once", "--port", "0")
	must(t, err)
	code, err := p.exit(patience)
	must(t, err)
	if said := p.out.all(); code != 0 || !strings.Contains(said, "0 lost, 0 duplicated") {
		t.Errorf("status %d after:\n%s\n%s", code, said, p.errout.tail())
	}
}
