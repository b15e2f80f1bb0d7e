package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the import path of the tree's root.
const module = "github.com/roamsync/roam"

// Finding is one violation of one rule.
type Finding struct {
	Path string // from the root of the tree
	Line int    // 0: the file or directory as a whole
	Rule string
	Why  string
}

// String puts the place first, as compilers do, and the reason last.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s\n\twhy: %s", f.Path, f.Line, f.Rule, f.Why)
}

// Tree is a repository's text and syntax.
type Tree struct {
	Files []*File // ordered by path
	root  fs.FS
}

// File is one file of text; Syntax is nil unless it is Go.
type File struct {
	Path      string
	Text      string
	Syntax    *ast.File
	Generated bool
	set       *token.FileSet
}

// Test says whether the file is compiled into tests only.
func (f *File) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Dir is the directory, "." for the root.
func (f *File) Dir() string { return path.Dir(f.Path) }

func (f *File) line(p token.Pos) int { return f.set.Position(p).Line }

// imports returns the file's import paths with their lines.
func (f *File) imports() map[string]int {
	lines := map[string]int{}
	for _, i := range f.Syntax.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil {
			lines[p] = f.line(i.Pos())
		}
	}
	return lines
}

// textual are the endings of files that people write and read.
var textual = []string{".go", ".md", ".yaml", ".yml", ".sh", ".proto", ".html", ".js", ".json", "Makefile", ".ci/run"}

// skipped are directories that hold nothing of ours.
var skipped = []string{".git", "bin", "testdata", "node_modules", "tmp"}

// Load reads and parses all that the rules look at.
func Load(root fs.FS) (*Tree, error) {
	t := &Tree{root: root}
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(skipped, d.Name()):
			return fs.SkipDir
		case d.IsDir() || !slices.ContainsFunc(textual, func(end string) bool { return strings.HasSuffix(p, end) }):
			return nil
		}
		f, err := load(root, p)
		if err == nil {
			t.Files = append(t.Files, f)
		}
		return err
	})
	return t, err
}

func load(root fs.FS, p string) (*File, error) {
	b, err := fs.ReadFile(root, p)
	if err != nil {
		return nil, err
	}
	f := &File{Path: p, Text: string(b), set: token.NewFileSet()}
	if strings.HasSuffix(p, ".go") {
		if f.Syntax, err = parser.ParseFile(f.set, p, b, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		f.Generated = ast.IsGenerated(f.Syntax)
	}
	return f, nil
}

// goFiles returns the Go files that people write.
func (t *Tree) goFiles() []*File {
	return slices.DeleteFunc(slices.Clone(t.Files), func(f *File) bool { return f.Syntax == nil || f.Generated })
}

// packages groups the Go files, generated ones included, by directory.
func (t *Tree) packages() map[string][]*File {
	dirs := map[string][]*File{}
	for _, f := range t.Files {
		if f.Syntax != nil {
			dirs[f.Dir()] = append(dirs[f.Dir()], f)
		}
	}
	return dirs
}

// Check applies every rule and returns what it found, by path and line.
func Check(t *Tree) []Finding {
	var found []Finding
	for _, rule := range []func(*Tree) []Finding{Imports, Purity, Lengths, Documents, Waits, Words, Links} {
		found = append(found, rule(t)...)
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return found
}
