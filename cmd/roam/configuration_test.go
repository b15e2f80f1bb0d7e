package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

//go:generate go test . -run ^TestConfiguration$ -update

var update = flag.Bool("update", false, "write docs/configuration.md again")

const reference = "../../docs/configuration.md"

// TestConfiguration: the reference of all flags says what the program takes.
func TestConfiguration(t *testing.T) {
	want := configuration(t)
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/configuration.md is not what the flags say: run `go generate ./cmd/roam`")
	}
}

// configuration is the reference in Markdown, from the same description that parses the command line.
func configuration(t *testing.T) string {
	t.Helper()
	parser, err := newParser(&cli{}, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Configuration\n\nGenerated from the flags by `go generate ./cmd/roam`; a test fails when it is stale.\n\n" +
		"Every flag is also an environment variable, and a key of the YAML file of `--config` (its name without the dashes). Flags win\n" +
		"over the environment, the environment over the file. A key that is no flag of any command is refused; so is a value that\n" +
		"cannot work: `--check` says so without starting anything.\n")
	section(&b, "## All commands", "", parser.Model.Node)
	for _, cmd := range parser.Model.Leaves(true) {
		section(&b, "## "+cmd.FullPath(), cmd.Help, cmd)
	}
	return b.String()
}

func section(b *strings.Builder, title, help string, n *kong.Node) {
	fmt.Fprintf(b, "\n%s\n", title)
	if help != "" {
		fmt.Fprintf(b, "\n%s\n", help)
	}
	for _, arg := range n.Positional {
		fmt.Fprintf(b, "\n`%s`: %s\n", arg.Summary(), arg.Help)
	}
	head := "\n| flag | environment | default | |\n|---|---|---|---|\n"
	for _, f := range n.Flags {
		if f.Hidden || f.Name == "help" {
			continue
		}
		fmt.Fprintf(b, "%s| `--%s` | %s | %s | %s |\n", head, f.Name, environment(f), byDefault(f), cell(f.Help))
		head = ""
	}
}

func environment(f *kong.Flag) string {
	if len(f.Envs) == 0 {
		return ""
	}
	return "`" + strings.Join(f.Envs, "`, `") + "`"
}

func byDefault(f *kong.Flag) string {
	switch {
	case f.Required:
		return "required"
	case f.Default != "":
		return "`" + f.Default + "`"
	}
	return ""
}

func cell(s string) string { return strings.NewReplacer("|", `\|`, "<", `\<`).Replace(s) }

// TestCheckFlag: --check judges what would be served, and says that it judges nothing else.
func TestCheckFlag(t *testing.T) {
	key := filepath.Join(t.TempDir(), "ring")
	if err := os.WriteFile(key, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words  string
		status int
		says   string
	}{
		{"serve --check --region beijing --auth dev --secret-file " + key, 0, "ok"},
		{"serve --check --region beijing --auth dev --secret-file none", 1, "--secret-file"},
		{"serve --check --region beijing --secret-file " + key, 1, "--auth"},
		{"serve --check --region beijing --auth-hs256-file none --secret-file " + key, 1, "--auth-hs256-file"},
		{"worker --check --region beijing", 0, "ok"},
		{"worker --check --region beijing --concurrency 0", 1, "--concurrency"},
		{"keygen --check", usageStatus, "--check"},
	} {
		var out strings.Builder
		if got := run(context.Background(), strings.Fields(c.words), &out, &out); got != c.status || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: status %d, %s", c.words, got, out.String())
		}
	}
}
