package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const installed = "/usr/local/bin/roam"

// units copies the units with our binary in place of the installed one, each as an instance.
func units(t *testing.T, change func(string) string) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for template, instance := range map[string]string{"roam@.service": "roam@b1.service", "roam-worker@.service": "roam-worker@1.service"} {
		text := read(t, "systemd/"+template)
		if !strings.Contains(text, "ExecStart="+installed+" ") {
			t.Fatalf("%s does not start %s", template, installed)
		}
		path := filepath.Join(dir, instance)
		if err := os.WriteFile(path, []byte(change(strings.ReplaceAll(text, installed, roam))), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// verify returns what systemd has to say of a unit. It passes over lines that it cannot read, with status 0: any word is one too many.
func verify(path string) string {
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(out)
	}
	return string(out)
}

// maxExposure is systemd's figure for what a unit could do to its machine, times ten: 0 to 100.
const maxExposure = "15"

func TestUnits(t *testing.T) {
	for _, path := range units(t, func(s string) string { return s }) {
		if said := verify(path); said != "" {
			t.Errorf("%s: %s", filepath.Base(path), said)
		}
		if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold="+maxExposure, path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(path), err, out)
		}
	}
	for _, p := range [][2]string{{"KillMode=mixed", "KillMode=fixed"}, {"ExecStart=/", "ExecStart=/none/"}, {"ProtectClock=", "ProtectClocks="}} {
		for _, path := range units(t, func(s string) string { return strings.Replace(s, p[0], p[1], 1) }) {
			if verify(path) == "" {
				t.Errorf("%s: systemd-analyze takes %s", filepath.Base(path), p[1])
			}
		}
	}
}

var command = regexp.MustCompile(`(?m)^(ExecStart|ExecStartPre)=` + installed + ` (.*)$`)

// TestUnitsStartWhatExists: the commands of the units, with the example files, are what roam takes.
func TestUnitsStartWhatExists(t *testing.T) {
	for unit, replace := range map[string]*strings.Replacer{
		"roam@.service": strings.NewReplacer("/etc/roam/%i", "systemd/b1", "%S/roam", t.TempDir(), "%d/ring", keys+"/ring.key",
			"%d/hs256", keys+"/hs256.key", "%i", "b1"),
		"roam-worker@.service": strings.NewReplacer("/etc/roam/worker-%i", "systemd/worker-1"),
	} {
		lines := command.FindAllStringSubmatch(read(t, "systemd/"+unit), -1)
		if len(lines) != 2 {
			t.Fatalf("%s has %d commands", unit, len(lines))
		}
		if before, start := strings.Replace(lines[0][2], " --check", "", 1), lines[1][2]; before != start {
			t.Errorf("%s checks %q and starts %q", unit, before, start)
		}
		for _, line := range lines {
			args := strings.Fields(replace.Replace(line[2]))
			if line[1] == "ExecStart" {
				args = append(args, "--check")
			}
			if out, err := call(nil, args...); err != nil {
				t.Errorf("%s: %s: %v: %s", unit, line[0], err, out)
			}
		}
	}
}

func TestUnitsLeaveTimeToDrain(t *testing.T) {
	for _, unit := range []string{"roam@.service", "roam-worker@.service"} {
		m := regexp.MustCompile(`\nTimeoutStopSec=(\d+)\n`).FindStringSubmatch(read(t, "systemd/"+unit))
		if m == nil {
			t.Fatalf("%s has no TimeoutStopSec", unit)
		}
		if d, err := time.ParseDuration(m[1] + "s"); err != nil || d < drainBound(t)+slack {
			t.Errorf("%s kills after %s; the end may take %s", unit, d, drainBound(t)+slack)
		}
	}
}

// TestSysctl: each setting has its reason above it, is set once, and is one that Linux knows.
func TestSysctl(t *testing.T) {
	seen, before := map[string]bool{}, ""
	setting := regexp.MustCompile(`^([a-z0-9_.]+) = (\d+( \d+)*)$`)
	for _, line := range strings.Split(read(t, "sysctl.d/60-roam.conf"), "\n") {
		if m := setting.FindStringSubmatch(line); m != nil {
			if !strings.HasPrefix(before, "# ") || seen[m[1]] {
				t.Errorf("%s: without a reason, or twice", m[1])
			}
			seen[m[1]] = true
			knownSysctl(t, m[1])
		} else if line != "" && !strings.HasPrefix(line, "# ") {
			t.Errorf("%q is neither a setting nor a reason", line)
		}
		before = line
	}
	if len(seen) == 0 {
		t.Error("no settings")
	}
	for _, n := range project(t).running("serve") {
		for k := range n.Sysctls {
			if !seen[k] {
				t.Errorf("%s sets %s, of which sysctl.d says nothing", n.Name, k)
			}
		}
	}
}

// knownSysctl asks the kernel. Some are shown in the machine's first network namespace only: those are listed.
func knownSysctl(t *testing.T, name string) {
	t.Helper()
	first := map[string]bool{"net.core.netdev_max_backlog": true, "net.core.rmem_max": true, "net.core.wmem_max": true}
	if _, err := os.Stat("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); err != nil && !first[name] {
		t.Errorf("this kernel knows no %s", name)
	}
}
