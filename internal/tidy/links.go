package tidy

import (
	"fmt"
	"io/fs"
	"iter"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// link matches the target of a Markdown link or picture.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

const whyLinks = "a reader who follows a link that leads nowhere stops believing the rest"

// Links finds links in Markdown files that lead to no file of the tree, or to no heading of it.
func Links(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Files {
		if !strings.HasSuffix(f.Path, ".md") {
			continue
		}
		for n, line := range proseLines(f.Text) {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if wrong := t.followed(f, m[1]); wrong != "" {
					found = append(found, Finding{f.Path, n, wrong, whyLinks})
				}
			}
		}
	}
	return found
}

// followed says what is wrong with a link, "" if it leads somewhere or out of the tree.
func (t *Tree) followed(from *File, target string) string {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return ""
	}
	file, anchor, _ := strings.Cut(target, "#")
	to := from.Path
	if file != "" {
		to = path.Join(from.Dir(), file)
	}
	if _, err := fs.Stat(t.root, to); err != nil {
		return fmt.Sprintf("link to %s, which is not there", target)
	}
	if anchor == "" {
		return ""
	}
	for _, f := range t.Files {
		if f.Path == to && anchors(f.Text)[anchor] {
			return ""
		}
	}
	return fmt.Sprintf("link to %s, but %s has no such heading", target, to)
}

// anchors are what a file's headings are called in links, as GitHub makes them.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, line := range proseLines(text) {
		words := strings.TrimLeft(line, "#")
		if words == line || !strings.HasPrefix(words, " ") {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(words))
		for base, n := name, 1; all[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		all[name] = true
	}
	return all
}

// proseLines yields the lines outside of code blocks, with their numbers.
func proseLines(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		code := false
		for n, line := range strings.Split(text, "\n") {
			fence := strings.HasPrefix(strings.TrimSpace(line), "```")
			if fence {
				code = !code
			}
			if !code && !fence && !yield(n+1, line) {
				return
			}
		}
	}
}
