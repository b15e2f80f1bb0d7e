package tidy

import (
	"fmt"
	"slices"
	"strings"
)

// layer is a row of the drawing: a directory with all below it, and which other packages of the project it may
// import. The row with the longest matching directory counts.
type layer struct {
	dir   string
	may   []string // directories, with all below them; its own is always allowed
	tests []string // what its tests may import besides
	why   string
}

const (
	whyDoor     = "one door in, one door out: the five never import one another; internal/app joins them through interfaces that live with their user"
	whyUpward   = "nothing imports upward: crdt → wire → {region, replication, dispatch, gateway, client} → internal/app → cmd/roam"
	whyCRDT     = "crdt is pure values: what varies is stamped into the op before it comes here, so that every region computes the same bytes"
	whyLeaf     = "a leaf serves everyone, so it may know of no one"
	whyOutside  = "a test from outside knows the protocol and the command line only, and can put a disk back; what it shared with the code it could not find wrong"
	whyBubble   = "regions in a bubble are run as their owner runs them, and judged by what clients and operators see"
	whyCommand  = "cmd/roam turns flags into options and runs them, nothing else"
	whyUnlisted = "every package has its place in the drawing: enter the directory in internal/tidy/imports.go and say who it may import"
)

// layers is the drawing.
var layers = []layer{
	{dir: "crdt", why: whyCRDT},
	{dir: "wire", may: []string{"crdt"}, why: whyUpward},
	{dir: "region", may: below, tests: append([]string{"internal/image"}, transports...), why: whyDoor},
	{dir: "replication", may: below, tests: transports, why: whyDoor},
	{dir: "dispatch", may: below, tests: transports, why: whyDoor},
	{dir: "gateway", may: below, tests: transports, why: whyDoor},
	{dir: "client", may: below, tests: transports, why: whyDoor},
	{dir: "deploy", why: whyOutside},
	{dir: "internal/telemetry", why: whyLeaf},
	{dir: "internal/memnet", why: whyLeaf},
	{dir: "internal/peerport", why: whyLeaf},
	{dir: "internal/congestion", why: whyLeaf},
	{dir: "internal/certs", why: whyLeaf},
	{dir: "internal/reload", why: whyLeaf},
	{dir: "internal/clock", why: whyLeaf},
	{dir: "internal/deps", why: whyLeaf},
	{dir: "internal/raced", why: whyLeaf},
	{dir: "internal/tidy", why: whyLeaf},
	{dir: "internal/image", may: []string{"region/birth", "region/machine"}, why: "an image of a disk bears what its node left there, and no node is run to make it"},
	{dir: "internal/demo", may: []string{"client"}, why: "the demo checks regions from outside: it has the SDK, URLs and a token"},
	{dir: "internal/bench", why: "the generator measures regions from outside: it has the protocol, URLs and tokens"},
	{dir: "internal/chat", may: []string{"client"}, tests: []string{"internal/app"}, why: "a client from outside: it has the SDK, URLs and a token"},
	{dir: "internal/sim", may: append([]string{"region", "replication", "dispatch", "gateway", "client", "internal/check"}, append(below, transports...)...), why: whyUpward},
	{dir: "internal/app", may: append([]string{"region", "replication", "dispatch", "gateway", "client", "internal/peerport", "internal/congestion", "internal/certs", "internal/reload", "internal/clock", "internal/demo", "internal/bench"}, append(below, transports...)...), tests: []string{"internal/check", "internal/image"}, why: whyUpward},
	{dir: "internal/bubble", tests: []string{"internal/app", "region", "client", "internal/check", "internal/memnet"}, why: whyBubble},
	{dir: "internal/check", why: "the checker knows the protocol only; what it shared with the code it could not find wrong"},
	{dir: "internal/e2e", may: []string{"internal/check"}, tests: []string{"internal/image"}, why: whyOutside},
	{dir: "internal/wan", may: []string{"client", "internal/check", "internal/app", "internal/memnet"}, why: "the rig is outside: it has the SDK, the protocol and the command line; internal/app and internal/memnet are for machines without namespaces"},
	{dir: "tools/collector", why: "a tool of the tests: it takes what the product sends, so it shares nothing with it"},
	{dir: "cmd/roam", may: []string{"internal/app", "internal/chat"}, why: whyCommand},
}

var (
	below      = []string{"crdt", "wire", "internal/telemetry"}
	transports = []string{"internal/memnet"}
)

// foreign lists, for packages that are kept small, what they may import from outside the standard library. Tests
// may use what they like.
var foreign = []struct {
	dir, why string
	may      []string
}{
	{"crdt", whyCRDT, []string{"google.golang.org/protobuf/encoding/protowire", "github.com/cespare/xxhash/v2", "github.com/tidwall/btree"}},
	{"cmd/roam", whyCommand, []string{"github.com/alecthomas/kong", "go.yaml.in/yaml/v3"}},
}

// Imports finds packages that import what the drawing does not allow.
func Imports(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.goFiles() {
		l, ok := layerOf(f.Dir())
		if !ok {
			found = append(found, Finding{f.Path, 0, fmt.Sprintf("package %s is not in the drawing", f.Dir()), whyUnlisted})
			continue
		}
		for imp, line := range f.imports() {
			if why := l.refuses(f, imp); why != "" {
				found = append(found, Finding{f.Path, line, fmt.Sprintf("%s imports %s", f.Dir(), imp), why})
			}
		}
	}
	return found
}

func layerOf(dir string) (layer, bool) {
	best, ok := layer{}, false
	for _, l := range layers {
		if under(dir, l.dir) && len(l.dir) > len(best.dir) {
			best, ok = l, true
		}
	}
	return best, ok
}

// refuses says why an import is not allowed, "" if it is.
func (l layer) refuses(f *File, imp string) string {
	if imp == module || strings.HasPrefix(imp, module+"/") {
		return l.refusesOurs(f, strings.TrimPrefix(imp, module+"/"))
	}
	if f.Test() || !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") { // the standard library has no dot
		return ""
	}
	for _, r := range foreign {
		if under(f.Dir(), r.dir) && !slices.Contains(r.may, imp) {
			return r.why
		}
	}
	return ""
}

func (l layer) refusesOurs(f *File, dir string) string {
	may := append([]string{l.dir}, l.may...)
	if f.Test() {
		may = append(append(may, l.tests...), "internal/raced") // what the race detector cannot do concerns every test
	}
	if slices.ContainsFunc(may, func(d string) bool { return under(dir, d) }) {
		return ""
	}
	return l.why
}

func under(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }
