package tidy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestRepository is the rule itself; the other tests show that it can fail.
func TestRepository(t *testing.T) {
	tree, err := Load(os.DirFS(root(t)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(tree.goFiles()); n < 20 {
		t.Fatalf("only %d Go files were read: the rules would hold of nothing", n)
	}
	for _, f := range Check(tree) {
		t.Error(f)
	}
}

// root is the directory of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// planted is one file with one violation, and a file beside it that is like it but allowed.
type planted struct {
	name     string
	rule     func(*Tree) []Finding
	bad, ok  string // "path: text"
	line     int
	says, by string // what the finding says, and a word of its reason
}

func TestRulesFindWhatIsPlanted(t *testing.T) {
	for _, p := range violations {
		t.Run(p.name, func(t *testing.T) {
			if p.ok != "" {
				for _, f := range p.rule(treeOf(t, p.ok)) {
					t.Errorf("allowed, yet found: %v", f)
				}
			}
			found := p.rule(treeOf(t, p.bad))
			if len(found) != 1 {
				t.Fatalf("%d findings, want 1: %v", len(found), found)
			}
			f := found[0]
			if f.Line != p.line || !strings.Contains(f.Rule, p.says) || !strings.Contains(f.Why, p.by) {
				t.Errorf("found %v; want line %d, %q and %q", f, p.line, p.says, p.by)
			}
		})
	}
}

func treeOf(t *testing.T, files ...string) *Tree {
	t.Helper()
	root := fstest.MapFS{}
	for _, f := range files {
		path, text, _ := strings.Cut(f, ": ")
		root[path] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func goFile(path, imp, body string) string {
	return path + ": package p\n\nimport \"" + imp + "\"\n\n" + body + "\n"
}

const ours = module + "/"

var violations = []planted{
	{"crdt upward", Imports, goFile("crdt/a.go", ours+"wire", ""), goFile("wire/a.go", ours+"crdt", ""), 3, "crdt imports", "pure values"},
	{"crdt foreign", Imports, goFile("crdt/a.go", "github.com/x/y", ""), goFile("crdt/a.go", "github.com/cespare/xxhash/v2", ""), 3, "github.com/x/y", "pure values"},
	{"wire upward", Imports, goFile("wire/a.go", ours+"region", ""), "", 3, "wire imports", "upward"},
	{"siblings", Imports, goFile("gateway/a.go", ours+"region", ""), goFile("gateway/a.go", ours+"wire", ""), 3, "gateway imports", "one another"},
	{"siblings in a test", Imports, goFile("gateway/a_test.go", ours+"region", ""), goFile("gateway/a_test.go", ours+"internal/memnet", ""), 3, "gateway imports", "one another"},
	{"siblings from below", Imports, goFile("dispatch/worker/a.go", ours+"client", ""), goFile("dispatch/worker/a.go", ours+"dispatch", ""), 3, "dispatch/worker imports", "one another"},
	{"memnet in production", Imports, goFile("region/a.go", ours+"internal/memnet", ""), "", 3, "region imports", "one another"},
	{"app to cmd", Imports, goFile("internal/app/a.go", ours+"cmd/roam", ""), goFile("internal/app/a.go", ours+"region", ""), 3, "internal/app imports", "upward"},
	{"cmd past app", Imports, goFile("cmd/roam/a.go", ours+"region", ""), goFile("cmd/roam/a.go", ours+"internal/app", ""), 3, "cmd/roam imports", "flags"},
	{"cmd foreign", Imports, goFile("cmd/roam/a.go", "github.com/redis/go-redis/v9", ""), goFile("cmd/roam/a.go", "github.com/alecthomas/kong", ""), 3, "go-redis", "flags"},
	{"e2e inside", Imports, goFile("internal/e2e/a_test.go", ours+"wire", ""), goFile("internal/e2e/a_test.go", "github.com/coder/websocket", ""), 3, "internal/e2e imports", "outside"},
	{"leaf", Imports, goFile("internal/memnet/a.go", ours+"wire", ""), "", 3, "internal/memnet imports", "leaf"},
	{"unlisted", Imports, "util/a.go: package util\n", "", 0, "not in the drawing", "its place"},

	{"crdt clock", Purity, goFile("crdt/a.go", "time", "var _ = time.Now()"), goFile("crdt/a.go", "time", "var _ time.Time"), 5, "time.Now", "pure values"},
	{"crdt lock", Purity, goFile("crdt/a.go", "sync", ""), goFile("crdt/a_test.go", "sync", ""), 3, "sync", "pure values"},
	{"crdt atomic", Purity, goFile("crdt/a.go", "sync/atomic", ""), "", 3, "sync/atomic", "pure values"},
	{"crdt context", Purity, goFile("crdt/a.go", "context", ""), goFile("wire/a.go", "context", ""), 3, "context", "pure values"},
	{"crdt log", Purity, goFile("crdt/a.go", "log/slog", ""), "", 3, "log/slog", "pure values"},
	{"crdt os", Purity, goFile("crdt/a.go", "os", ""), "", 3, "os", "pure values"},
	{"crdt net", Purity, goFile("crdt/a.go", "net/netip", ""), "", 3, "net/netip", "pure values"},
	{"crdt goroutine", Purity, "crdt/a.go: package crdt\n\nfunc f() { go f() }\n", "crdt/a.go: package crdt\n\nfunc f() { defer f() }\n", 3, "goroutine", "pure values"},

	{"long function", Lengths, "a.go: package a\n\nfunc f() {\n" + strings.Repeat("\tf()\n", 69) + "}\n",
		"a.go: package a\n\nfunc f() {\n" + strings.Repeat("\tf()\n", 68) + "}\n", 3, "71 lines", "split"},
	{"excuse without a reason", Lengths, "a.go: package a\n\n//tidy:long\nfunc f() {\n" + strings.Repeat("\tf()\n", 69) + "}\n",
		"a.go: package a\n\n// f wires.\n//\n//tidy:long one straight list\nfunc f() {\n" + strings.Repeat("\tf()\n", 69) + "}\n", 4, "71 lines", "split"},
	{"long file", Lengths, "a.go: package a\n" + strings.Repeat("\n", 500), "a.pb.go: // Code generated by x. DO NOT EDIT.\n\npackage a\n" + strings.Repeat("\n", 500), 0, "501 lines", "sitting"},

	{"no package comment", Documents, "internal/a/a.go: package a\n", "internal/a/a.go: // Package a is one.\npackage a\n", 0, "no package comment", "guarantees"},
	{"comment in a test only", Documents, "internal/a/a_test.go: // Package a is one.\npackage a\n", "", 0, "no package comment", "guarantees"},
	{"no design", Documents, "region/a.go: // Package region is one.\npackage region\n", "", 0, "no DESIGN.md", "trade-offs"},

	{"skip", Waits, goFile("a_test.go", "testing", "func TestA(t *testing.T) { t.Skip() }"), goFile("a_test.go", "testing", "func TestA(t *testing.T) { t.Log() }"), 5, "t.Skip", "passed"},
	{"skip now", Waits, goFile("a_test.go", "testing", "func BenchmarkA(b *testing.B) { b.SkipNow() }"), "", 5, "b.SkipNow", "passed"},
	{"short", Waits, goFile("a_test.go", "testing", "var _ = testing.Short()"), "", 5, "testing.Short", "passed"},
	{"sleep", Waits, goFile("a_test.go", "time", "func f() { time.Sleep(1) }"),
		"a_test.go: package p\n\nimport (\n\t_ \"testing/synctest\"\n\t\"time\"\n)\n\nfunc f() { time.Sleep(1) }\n", 5, "time.Sleep", "event"},
	{"sleep by another name", Waits, "a_test.go: package p\n\nimport clock \"time\"\n\nfunc f() { clock.Sleep(1) }\n", "", 5, "time.Sleep", "event"},
	{"sleep in production", Waits, goFile("a.go", "time", "func f() { time.Sleep(1) }"), "", 5, "time.Sleep", "cancelled"},

	{"link to no file", Links, "docs/a.md: [x](b.md)\n", "docs/a.md: [x](a.md) [y](../docs/a.md) [z](https://example.com/b.md)\n", 1, "b.md, which is not there", "believing"},
	{"link to no heading", Links, "a.md: # One thing\n\n[x](#two)\n", "a.md: # One `--thing`: it\n# Two\n# Two\n[x](#one---thing-it) [y](a.md#two-1)\n", 3, "no such heading", "believing"},
	{"heading in code", Links, "a.md: ```\n# One\n```\n[x](#one)\n", "a.md: # One\n```\n[x](b.md)\n```\n[x](#one)\n", 4, "no such heading", "believing"},

	{"mark", Words, "a.go: package a\n\n// TO" + "DO: more\n", "a.go: package a\n\n// autodone\n", 3, "TO" + "DO", "finish"},
	{"postponed", Words, "a.md: good enough for " + "now.\n", "a.md: for nowhere\n", 1, "for " + "now", "finish"},
	{"path", Words, "a.md: see /ho" + "me/me/x\n", "a.md: see /tmp/x and /var/lib/roam and a/work/b\n", 1, "path of one machine", "cloned"},
	{"path in quotes", Words, "Makefile: X := \"/wo" + "rk/bin\"\n", "", 1, "path of one machine", "cloned"},
}

// TestDesignSatisfies: the rule about DESIGN.md is lifted by the file, not by anything else.
func TestDesignSatisfies(t *testing.T) {
	tree := treeOf(t, "region/a.go: // Package region is one.\npackage region\n", "region/DESIGN.md: # why\n")
	if found := Documents(tree); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// TestCheckRunsEveryRule plants one violation of each rule in one tree.
func TestCheckRunsEveryRule(t *testing.T) {
	tree := treeOf(t,
		goFile("crdt/a.go", ours+"wire", "func f() { go f() }"),
		"gateway/a_test.go: package gateway\n\nimport \"testing\"\n\nfunc f(t *testing.T) { t.Skip() } // fix"+"me\n"+strings.Repeat("\n", 500), "a.md: [x](y)")
	for _, want := range []string{"link", "imports", "goroutine", "lines", "package comment", "t.Skip", "in text"} {
		ok := false
		for _, f := range Check(tree) {
			ok = ok || strings.Contains(f.Rule, want)
		}
		if !ok {
			t.Errorf("no finding about %q", want)
		}
	}
}
