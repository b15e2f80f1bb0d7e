package deploy

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile returns what is wrong with a Dockerfile's text.
func dockerfile(text, goVersion string) (found []string) {
	bad := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	ast, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return []string{err.Error()}
	}
	stages, _, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return []string{err.Error()}
	}
	if len(stages) != 2 || !strings.HasPrefix(stages[0].BaseName, "golang:"+goVersion+"-") {
		bad("it is not built with Go %s in a stage of its own", goVersion)
	}
	if !strings.Contains(text, "CGO_ENABLED=0 go build") {
		bad("the binary is not static")
	}
	last := stages[len(stages)-1]
	if !regexp.MustCompile(`:\w`).MatchString(last.BaseName) || strings.HasSuffix(last.BaseName, ":latest") {
		bad("the last base %s has no tag", last.BaseName)
	}
	var user, entry, binary string
	var health []string
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = c.CmdLine[0]
		case *instructions.CopyCommand:
			if slices.Contains(c.SourcePaths, "/out/roam") {
				binary = c.DestPath
			}
		case *instructions.HealthCheckCommand:
			health = c.Health.Test
		}
	}
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		bad("it runs as %q: a number other than root's is needed", user)
	}
	if binary == "" || entry != binary {
		bad("it runs %q, the binary is at %q", entry, binary)
	}
	return append(found, healthCheck(health, binary)...)
}

// healthCheck lets roam itself parse its part; nothing listens here, so it ends with 1, and with 2 if it was misused.
func healthCheck(words []string, binary string) []string {
	if len(words) < 2 || words[0] != "CMD" || words[1] != binary {
		return []string{fmt.Sprintf("the health check is %v: there is no shell, and no program but %s", words, binary)}
	}
	out, err := call(nil, words[2:]...)
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(out, "connection refused") {
		return []string{fmt.Sprintf("health check: %v: %s", err, out)}
	}
	return nil
}

func goVersion(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`\ngo (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	if m == nil {
		t.Fatal("go.mod names no Go")
	}
	return m[1]
}

func TestDockerfile(t *testing.T) {
	text, version := read(t, "Dockerfile"), goVersion(t)
	for _, f := range dockerfile(text, version) {
		t.Error(f)
	}
	for _, p := range []struct{ old, new, says string }{
		{"WORKDIR /src", "WORKDIRR /src", "WORKDIRR"},
		{"golang:1.", "golang:0.", "built with Go"},
		{"CGO_ENABLED=0 ", "", "not static"},
		{":nonroot\n", "\n", "no tag"},
		{"USER 65532:65532", "USER root", "runs as"},
		{`"--admin", "127.0.0.1:8081"`, `"--adnim", "127.0.0.1:8081"`, "adnim"},
		{`CMD ["/usr/local/bin/roam", "health"`, `CMD ["curl", "health"`, "no shell"},
		{`ENTRYPOINT ["/usr`, `ENTRYPOINT ["/opt`, "the binary is at"},
	} {
		broken := strings.Replace(text, p.old, p.new, 1)
		if found := strings.Join(dockerfile(broken, version), "\n"); broken == text || !strings.Contains(found, p.says) {
			t.Errorf("%q: no rule says %q; found: %s", p.new, p.says, found)
		}
	}
}

// TestImageFitsCompose: the image's health check asks where compose.yaml makes nodes listen, and volumes are where the
// image has a directory that its user owns.
func TestImageFitsCompose(t *testing.T) {
	text := read(t, "Dockerfile")
	for _, n := range project(t).running("serve") {
		for _, want := range []string{
			`"--admin", "127.0.0.1:` + portOf(n, "ROAM_ADMIN_ADDR") + `"`, "VOLUME " + env(n, "ROAM_DATA") + "\n",
			portOf(n, "ROAM_CLUSTER_ADDR") + "/udp", "--chown=65532:65532 /out/data " + env(n, "ROAM_DATA") + "\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s needs %q in the Dockerfile", n.Name, want)
			}
		}
	}
}

// TestBuildsWithoutC: no package that the binary is made of needs a C compiler.
func TestBuildsWithoutC(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if or .CgoFiles .DepsErrors}}{{.ImportPath}} {{.DepsErrors}}{{end}}", "./cmd/roam")
	cmd.Dir = ".."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestContextHoldsNoKeys: what is secret never gets into a layer.
func TestContextHoldsNoKeys(t *testing.T) {
	ignored := strings.Fields(read(t, "Dockerfile.dockerignore"))
	for _, want := range []string{"**/secrets", "**/*.key", ".git", "deploy"} {
		if !slices.Contains(ignored, want) {
			t.Errorf("%s gets into the build", want)
		}
	}
}
