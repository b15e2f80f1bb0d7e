package tidy

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// impure are the packages of the standard library, with all below them, that pure values have no use for.
var impure = []string{"context", "log", "math/rand", "crypto/rand", "net", "os", "runtime", "sync", "syscall", "testing"}

// clock are the names in package time that read the clock or wait for it.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// pure lists the directories, with all below them, that hold values and state machines of values only.
var pure = []struct{ dir, why string }{
	{"crdt", whyCRDT},
	{"replication/feeds", "what regions do with feeds is decided by values, so that a simulation runs the same code"},
}

// Purity finds what is not a pure value where only such are allowed: I/O, goroutines, locks, contexts, logs, randomness
// and the time of day.
func Purity(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.goFiles() {
		i := slices.IndexFunc(pure, func(p struct{ dir, why string }) bool { return under(f.Dir(), p.dir) })
		if i < 0 || f.Test() {
			continue
		}
		add := func(line int, what string) {
			found = append(found, Finding{f.Path, line, f.Dir() + " " + what, pure[i].why})
		}
		for imp, line := range f.imports() {
			if slices.ContainsFunc(impure, func(p string) bool { return under(imp, p) }) {
				add(line, "imports "+imp)
			}
		}
		for _, sel := range selections(f, "time", clock) {
			add(f.line(sel.Pos()), "uses time."+sel.Sel.Name)
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				add(f.line(n.Pos()), "starts a goroutine")
			case *ast.ChanType:
				add(f.line(n.Pos()), "has a channel")
			}
			return true
		})
	}
	return found
}

// selections finds uses of names of a package, by whatever name the file imports it.
func selections(f *File, pkg string, names []string) []*ast.SelectorExpr {
	local := importedAs(f, pkg)
	var found []*ast.SelectorExpr
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && local != "" && x.Name == local && slices.Contains(names, sel.Sel.Name) {
			found = append(found, sel)
		}
		return true
	})
	return found
}

func importedAs(f *File, pkg string) string {
	for _, i := range f.Syntax.Imports {
		if p, _ := strconv.Unquote(i.Path.Value); p != pkg {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return path.Base(pkg)
	}
	return ""
}

const whyWait = "a test that sleeps is slow when it passes and flaky when the machine is busy: wait for the event, or use testing/synctest"

// Waits finds tests that are skipped, and sleeping outside fake time, in tests and elsewhere.
func Waits(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.goFiles() {
		if f.Test() {
			found = append(found, skips(f)...)
		}
		if importedAs(f, "testing/synctest") != "" {
			continue
		}
		for _, sel := range selections(f, "time", []string{"Sleep"}) {
			why := whyWait
			if !f.Test() {
				why = "a sleep cannot be cancelled: use a timer and the context"
			}
			found = append(found, Finding{f.Path, f.line(sel.Pos()), "time.Sleep outside testing/synctest", why})
		}
	}
	return found
}

// skips finds calls of Skip, Skipf and SkipNow on anything, and of testing.Short.
func skips(f *File) []Finding {
	var found []Finding
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		if (len(x.Name) <= 2 && strings.HasPrefix(sel.Sel.Name, "Skip")) || (x.Name == "testing" && sel.Sel.Name == "Short") {
			found = append(found, Finding{f.Path, f.line(n.Pos()), fmt.Sprintf("a test calls %s.%s", x.Name, sel.Sel.Name),
				"a test that did not run looks like one that passed: install what it needs in the test command"})
		}
		return true
	})
	return found
}
