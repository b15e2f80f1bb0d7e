package tidy

import (
	"fmt"
	"go/ast"
	"strings"
)

const (
	maxFunction = 70  // lines, from func to the closing brace
	maxFile     = 500 // lines
)

// long in a function's comment, followed by a reason, lifts its limit.
const long = "//tidy:long"

// Lengths finds functions and files that have grown too long.
func Lengths(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.goFiles() {
		if n := strings.Count(f.Text, "\n"); n > maxFile {
			found = append(found, Finding{f.Path, 0, fmt.Sprintf("file of %d lines; %d are allowed", n, maxFile),
				"a file is one thing that can be read in one sitting: split it by what it does"})
		}
		for _, d := range f.Syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				found = append(found, length(f, fn)...)
			}
		}
	}
	return found
}

func length(f *File, fn *ast.FuncDecl) []Finding {
	start, end := f.line(fn.Pos()), f.line(fn.End())
	n := end - start + 1
	if n <= maxFunction || excused(fn.Doc) {
		return nil
	}
	return []Finding{{f.Path, start, fmt.Sprintf("func %s has %d lines; %d are allowed", fn.Name.Name, n, maxFunction),
		"a function is read whole: split it, or say why it is long with " + long + " and a reason in its comment"}}
}

func excused(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if reason, ok := strings.CutPrefix(c.Text, long); ok && strings.TrimSpace(reason) != "" {
			return true
		}
	}
	return false
}
