package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	roam string // the program, built by TestMain
	keys string // a directory with its keys
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "roam-deploy-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// prepare builds roam, with -race as everything that is tested here, and makes keys as an operator does.
func prepare(dir string) error {
	roam, keys = filepath.Join(dir, "roam"), filepath.Join(dir, "secrets")
	build := exec.Command("go", "build", "-race", "-o", roam, "./cmd/roam")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build roam: %w\n%s", err, out)
	}
	if out, err := makeKeys(dir).CombinedOutput(); err != nil {
		return fmt.Errorf("keys.sh: %w\n%s", err, out)
	}
	return nil
}

func makeKeys(dir string) *exec.Cmd {
	cmd := exec.Command("./keys.sh", dir)
	cmd.Env = append(os.Environ(), "ROAM="+roam)
	return cmd
}

// called is what roam said: asked the same again, it says the same.
var called sync.Map // words -> answer

type answer struct {
	out string
	err error
}

// call runs roam with no more of its environment than env, and returns all it said.
func call(env []string, args ...string) (string, error) {
	slices.Sort(env)
	words := strings.Join(append(slices.Clone(env), args...), "\x00")
	if a, ok := called.Load(words); ok {
		return a.(answer).out, a.(answer).err
	}
	out, err := execute(env, args)
	called.Store(words, answer{out, err})
	return out, err
}

func execute(env, args []string) (string, error) {
	cmd := exec.Command(roam, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=20"}, env...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestKeys: the script makes keys once, for the container's user to read and for nobody else on the host to reach.
func TestKeys(t *testing.T) {
	for path, want := range map[string]os.FileMode{keys: 0o700 | os.ModeDir, keys + "/ring.key": 0o444, keys + "/hs256.key": 0o444} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v; %v", path, info.Mode(), want, err)
		}
	}
	if out, err := makeKeys(filepath.Dir(keys)).CombinedOutput(); err == nil || !strings.Contains(string(out), "already") {
		t.Errorf("a second time: %v: %s", err, out)
	}
	if ignored := read(t, ".gitignore"); !strings.Contains(ignored, "/secrets/\n") {
		t.Errorf("git would take the keys; it ignores %q", ignored)
	}
}

// drainBound is the longest that a node takes to end, by the constants that bound its steps.
func drainBound(t *testing.T) time.Duration {
	t.Helper()
	source := read(t, "../internal/app/run.go")
	var sum time.Duration
	for _, name := range []string{"drainTimeout", "stopTimeout"} {
		m := regexp.MustCompile(`\n\s*` + name + `\s*=\s*(\d+) \* time\.Second\n`).FindStringSubmatch(source)
		if m == nil {
			t.Fatalf("internal/app/run.go has no %s in seconds: say here what bounds the end of a node", name)
		}
		d, err := time.ParseDuration(m[1] + "s")
		if err != nil {
			t.Fatal(err)
		}
		sum += d
	}
	return sum
}

// slack is left between the end of a drain and the kill: for what has no bound of its own, like the last flush.
const slack = 10 * time.Second
