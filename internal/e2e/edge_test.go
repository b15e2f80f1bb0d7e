package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// edgesOf returns nodes without data for a region whose nodes are list.
func edgesOf(t *testing.T, list []*site, n int) (edges []*site) {
	t.Helper()
	for i := range n {
		e := newSite(list[0].region, t.TempDir(), list[0].secret)
		e.node, e.join = fmt.Sprintf("edge%d", i+1), list[0].join
		e.extra = []string{"--gateway"}
		edges = append(edges, e)
	}
	t.Cleanup(func() { endSites(t, edges) })
	return edges
}

// TestEdges: clients of nodes that hold no data go on while the nodes that do are killed, one after the other, and so do answers. An
// edge that is told to end sends its clients away and exits 0, and it leaves no files.
func TestEdges(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	edges := edgesOf(t, list, 2)
	for _, e := range edges {
		must(t, errors.Join(e.startServe(), e.ready()))
	}
	asker := user(t, "ida", "asker")
	must(t, asker.connect(edges[0], "ida/answer"))
	must(t, asker.put("ida/answer", ask("q", "one two three")))
	must(t, asker.finished("ida/answer", "q"))
	wants(t, asker.view("ida/answer"), "q", "one two three")
	if regions := string(asker.welcome.Regions); !strings.Contains(regions, edges[1].client) {
		t.Errorf("clients are told of %s, and not of the other edge", regions)
	}

	end := crowdAt(t, "ida", list, edges, talks{clients: 12, rest: 50 * time.Millisecond, within: 2 * time.Second})
	var failed error
	for _, s := range list {
		s.crash()
		<-time.After(time.Second) // the others go on without it
		failed = errors.Join(failed, s.restart(), wholeAgain(list))
	}
	end(failed)

	edges[0].serve.signal(syscall.SIGTERM)
	code, err := edges[0].serve.exit(patience)
	must(t, err)
	if code != 0 {
		t.Errorf("exit status %d", code)
	}
	if left, _ := os.ReadDir(filepath.Dir(edges[0].data)); len(left) > 0 {
		t.Errorf("a node without data has written %v", left)
	}
}
