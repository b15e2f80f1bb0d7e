package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/roamsync/roam/internal/raced"
)

// binary is the path of roam, built by TestMain.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	go launch()
	dir, err := os.MkdirTemp("", "roam-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	defer endShared()
	if _, err := exec.LookPath("redis-server"); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need redis-server: `make deps` installs it")
		return 1
	}
	binary = filepath.Join(dir, "roam")
	if err := build(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	flag.Parse()
	flag.Set("test.parallel", "8") // the tests wait more than they work
	return m.Run()
}

func build(to string) error {
	args := []string{"build", "-o", to}
	if raced.On {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/roamsync/roam/cmd/roam")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build roam: %w", err)
	}
	return nil
}
