package tidy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Words that say that something is not finished. They are put together here so that this file passes its own rule.
var unfinished = regexp.MustCompile(`(?i)\b(to` + `do|fix` + `me|xx` + `x|ha` + `ck|for ` + `now|simpli` + `fied)\b`)

// machine matches an absolute path that exists on somebody's machine only.
var machine = regexp.MustCompile(`(^|[\s"'(=` + "`" + `])/(wor` + `k|ro` + `ot|ho` + `me/\w|Use` + `rs/\w)[\w/.-]*`)

// Words finds marks of unfinished work, and absolute paths of one machine, in all text that people write.
func Words(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Files {
		if f.Generated {
			continue
		}
		for n, line := range strings.Split(f.Text, "\n") {
			if w := unfinished.FindString(line); w != "" {
				found = append(found, Finding{f.Path, n + 1, fmt.Sprintf("%q in text", w),
					"a word that marks unfinished work stays for years: finish it, or open an issue"})
			}
			if p := machine.FindString(line); p != "" {
				found = append(found, Finding{f.Path, n + 1, fmt.Sprintf("path of one machine: %s", strings.TrimSpace(p)),
					"the repository works wherever it is cloned to"})
			}
		}
	}
	return found
}

// Documents finds packages without a package comment and top packages without a DESIGN.md.
func Documents(t *Tree) []Finding {
	var found []Finding
	for dir, files := range t.packages() {
		if !slices.ContainsFunc(files, hasPackageComment) {
			found = append(found, Finding{dir, 0, "no package comment",
				"doc.go says what a package guarantees and what it refuses to know; without it every reader has to guess"})
		}
		if dir != "." && !strings.Contains(dir, "/") && !t.has(path.Join(dir, "DESIGN.md")) {
			found = append(found, Finding{dir, 0, "no DESIGN.md",
				"the reasons and trade-offs of a top package are written down, so that they need not be found out again"})
		}
	}
	return found
}

func hasPackageComment(f *File) bool {
	return !f.Test() && !f.Generated && f.Syntax.Doc != nil && strings.TrimSpace(f.Syntax.Doc.Text()) != ""
}

func (t *Tree) has(p string) bool {
	return slices.ContainsFunc(t.Files, func(f *File) bool { return f.Path == p })
}
